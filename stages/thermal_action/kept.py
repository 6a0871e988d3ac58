"""Files that an earlier run made for single recordings, so that one recording more costs one recording's work.

They lie in .scratch, where DVC neither deletes nor tracks, under the fingerprint of all that decides them, as hard links to what
the stage wrote: they take no space of their own while that stands. What was altered since is made anew; what no run needs goes.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from thermal_action.files import file_sha256, read_json, write_json


class Kept:
    """The kept files of one stage, in `folder`: each under its key, beside plain facts as JSON."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The file of `key` and the facts that it was kept with; None if it is not there, or altered."""
        file = self.folder / key
        try:
            facts = read_json(file.with_suffix(".json"))
            return (file, facts) if file_sha256(file) == facts["sha256"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def restore(self, key: str, target: Path) -> dict[str, Any] | None:
        """Puts the file of `key` at `target` and returns its facts; None as of find."""
        if found := self.find(key):
            link_or_copy(found[0], target)
            return found[1]
        return None

    def keep(self, key: str, source: Path, facts: dict[str, Any]) -> None:
        """facts: plain, with the `sha256` of `source`."""
        file = self.folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        link_or_copy(source, file)
        write_json(file.with_suffix(".json"), facts)

    def forget_all_but(self, keys: set[str]) -> None:
        for path in self.folder.glob("*"):
            if path.stem not in keys:
                path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
