"""Brings the frames around the keyframes, and the keyframe files themselves, from a source to data/raw.

in   the simulator, an archive or a TDengine server (`fetch.source`)
out  data/raw/query.json                what was asked and what was received
     data/raw/keyframes, data/raw/frames (see thermal_action/raw.py)
run  python stages/fetch.py             interrupted, it goes on where it stopped
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from tqdm import tqdm

from thermal_action.params import ActionNames, Field, read_params, run, section
from thermal_action.raw import RawStore, asked

RAW = Path("data/raw")


@section
class Archive:
    location: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


@section
class Fetch:
    source: Literal["simulator", "archive", "tdengine"]
    buffer_frames: Annotated[int, Field(ge=0, le=100_000)]
    page_frames: Annotated[int, Field(ge=1, le=100_000)]
    archive: Archive


def open_source(params: Fetch, classes: list[str], scratch: Path):
    """The source that `params.source` names; the others are not even imported."""
    if params.source == "archive":
        from thermal_action.sources.archive import ArchiveSource
        return ArchiveSource(**asdict(params.archive), classes=classes, scratch=scratch)


def main() -> None:
    params, classes = read_params("fetch", Fetch), read_params("classes", ActionNames)
    # a queue runs in a temporary clone: an absolute path keeps what an interrupted fetch has
    scratch = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"))
    source = open_source(params, classes, scratch)
    query = {"fetch": asked(asdict(params)), "source": source.query()}
    store = RawStore(RAW, query, params.page_frames, scratch)
    with tqdm(unit="frame", desc=f"fetch from {params.source}") as bar:
        source.fetch(store, bar.update)
    record = store.publish()
    print(f"fetch: {len(record['received'])} recordings, {record['frames']} frames")


if __name__ == "__main__":
    run(main)
