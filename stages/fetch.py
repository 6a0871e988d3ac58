"""Brings the frames around the keyframes, and the keyframe files themselves, from a source to data/raw.

in   the simulator, an archive, a TDengine server, video files or drawn ones (`fetch.source`)
out  data/raw/query.json                what was asked, what was received and what was left out
     data/raw/keyframes, data/raw/frames (see thermal_action/raw.py)
run  python stages/fetch.py             interrupted, it goes on where it stopped

Recordings that the last fetch brought are asked for again only when something that decides them has changed, or when
.scratch/fetch has been removed: do that when rows of the database were corrected or came late.
"""

import os
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from thermal_action.params import ActionNames, read_params
from thermal_action.raw import asked
from thermal_action.raw_store import RawStore
from thermal_action.script import run
from thermal_action.sources.options import Fetch, Server, check_fetch

RAW = Path("data/raw")


def open_source(params: Fetch, classes: list[str], scratch: Path):
    """The source that `params.source` names; the others are not even imported."""
    if params.source == "simulator":
        from thermal_action.sources.simulator import SimulatorSource
        return SimulatorSource(**asdict(params.simulator), classes=classes, buffer_frames=params.buffer_frames)
    if params.source == "archive":
        from thermal_action.sources.archive import ArchiveSource
        return ArchiveSource(**asdict(params.archive), classes=classes, scratch=scratch)
    if params.source == "videos":
        from thermal_action.sources.videos import VideosSource
        return VideosSource(**asdict(params.videos), classes=classes, scratch=scratch)
    if params.source == "lookalike":
        from thermal_action.sources.videos.lookalike import LookalikeSource
        return LookalikeSource(**asdict(params.lookalike), classes=classes, scratch=scratch)
    from thermal_action.sources.tdengine import TDengineSource
    server = read_params("server", Server)
    return TDengineSource(**asdict(params.tdengine), **asdict(server), classes=classes, buffer_frames=params.buffer_frames)


def main() -> None:
    params, classes = read_params("fetch", Fetch), read_params("classes", ActionNames)
    check_fetch(params)
    # a queue runs in a temporary clone: an absolute path keeps what an interrupted fetch has
    scratch = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"))
    source = open_source(params, classes, scratch)
    query = {"fetch": asked(read_params("fetch", dict)), "source": source.query()}
    with RawStore(RAW, query, params.page_frames, scratch) as store:
        with tqdm(unit="frame", desc=f"fetch from {params.source}") as bar:
            source.fetch(store, bar.update)
        record = store.publish()
    for what in store.left_out.values():
        print(f"fetch: left out: {what}")
    print(f"fetch: {len(record['received'])} recordings ({len(store.taken)} as they were), {record['frames']} frames")


if __name__ == "__main__":
    run(main, alone=True)
