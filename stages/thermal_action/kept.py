"""Files that an earlier run made for single recordings, so that one recording more costs one recording's work.

They lie in .scratch, where DVC neither deletes nor tracks, under the fingerprint of all that decides them, as hard links to what
the stage wrote: they take no space of their own while that stands. What was altered since is made anew; what no run needs goes.
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from thermal_action.files import file_sha256, read_json, replacing, write_json


class Kept:
    """The kept files of one stage, in `folder`: each, or several, under a key, beside plain facts as JSON."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The file of `key`, or the folder of its files, and the facts kept with it; None if it is not there, or altered."""
        path = self.folder / key
        try:
            facts = read_json(path.with_suffix(".json"))
            return (path, facts) if content_sha256(path) == facts["sha256"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def restore(self, key: str, target: Path) -> dict[str, Any] | None:
        """Puts the file of `key` at `target` and returns its facts; None as of find."""
        with suppress(FileNotFoundError):  # somebody who shares the folder has just forgotten it
            if found := self.find(key):
                link_or_copy(found[0], target)
                return found[1]
        return None

    def restore_files(self, key: str, root: Path) -> bool:
        """Puts the files of `key` back to their places below `root`, the last names first; False where find gives None."""
        with suppress(FileNotFoundError):
            if found := self.find(key):
                for file in reversed(files_below(found[0])):
                    link_or_copy(file, root / file.relative_to(found[0]))
                return True
        return False

    def keep(self, key: str, source: Path, facts: dict[str, Any]) -> None:
        """facts: plain, with the `sha256` of `source`."""
        file = self.folder / key
        link_or_copy(source, file)
        write_json(file.with_suffix(".json"), facts)

    def keep_files(self, key: str, root: Path, files: Iterable[Path]) -> None:
        """Keeps files under one key, each with its place below `root`."""
        folder = self.folder / key
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(FileNotFoundError):
            for file in files:
                link_or_copy(file, folder / file.relative_to(root))
            write_json(folder.with_suffix(".json"), {"sha256": content_sha256(folder)})

    def forget_all_but(self, keys: set[str]) -> None:
        for path in self.folder.glob("*"):
            if path.stem not in keys:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, temporary)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def content_sha256(path: Path) -> str | dict[str, str]:
    """Of a file; of every file in a folder, by its place there."""
    if path.is_dir():
        return {str(file.relative_to(path)): file_sha256(file) for file in files_below(path)}
    return file_sha256(path)
