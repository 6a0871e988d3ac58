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
class Simulator:
    seed: Annotated[int, Field(ge=0)]
    rooms: Annotated[int, Field(ge=1, le=1000)]
    sessions: Annotated[int, Field(ge=1, le=1000)]
    recordings: Annotated[int, Field(ge=1, le=1000)]
    seconds: Annotated[float, Field(ge=5, le=86_400)]
    rows: Annotated[int, Field(ge=8, le=256)]  # pixels
    cols: Annotated[int, Field(ge=8, le=256)]
    fps: Annotated[float, Field(ge=1, le=30)]
    keyframe_interval_s: Annotated[float, Field(ge=0.2, le=60)]
    people: Annotated[int, Field(ge=1, le=4)]
    visits: Annotated[float, Field(ge=0, le=0.95)]
    packet_loss: Annotated[float, Field(ge=0, le=0.35)]
    payload: Literal["int16", "float32"]
    class_weights: dict[str, Annotated[float, Field(ge=0)]]
    balance: Annotated[float, Field(ge=0, le=1)]


@section
class Archive:
    location: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


@section
class TableColumns:
    ts: str
    frame_data: str
    width: str | None
    height: str | None
    frame_seq: str | None


@section
class TDengine:
    keyframes: str
    database: str
    table: str
    columns: TableColumns
    width: Annotated[int, Field(ge=1)] | None  # pixels, where the table has no such column
    height: Annotated[int, Field(ge=1)] | None
    encoding: Literal["auto", "base64", "hex", "json"]
    compression: Literal["auto", "zlib", "none"]
    dtype: Literal["auto", "float32", "int16"]
    max_distance_ms: Annotated[int, Field(ge=0, le=3_600_000)]


@section
class Fetch:
    source: Literal["simulator", "archive", "tdengine"]
    buffer_frames: Annotated[int, Field(ge=0, le=100_000)]
    page_frames: Annotated[int, Field(ge=1, le=100_000)]
    simulator: Simulator
    archive: Archive
    tdengine: TDengine


@section
class Server:
    url: str
    connections: Annotated[int, Field(ge=1, le=8)]
    page_rows: Annotated[int, Field(ge=1, le=10_000)]  # frames
    connect_timeout_s: Annotated[float, Field(ge=0.1, le=86_400)]
    read_timeout_s: Annotated[float, Field(ge=0.1, le=86_400)]
    deadline_s: Annotated[float, Field(ge=0.1, le=86_400)]
    retries: Annotated[int, Field(ge=0, le=20)]
    accept_gzip: bool
    token_in_url: bool


def open_source(params: Fetch, classes: list[str], scratch: Path):
    """The source that `params.source` names; the others are not even imported."""
    if params.source == "simulator":
        from thermal_action.sources.simulator import SimulatorSource
        return SimulatorSource(**asdict(params.simulator), classes=classes, buffer_frames=params.buffer_frames)
    if params.source == "archive":
        from thermal_action.sources.archive import ArchiveSource
        return ArchiveSource(**asdict(params.archive), classes=classes, scratch=scratch)
    from thermal_action.sources.tdengine import TDengineSource
    server = read_params("server", Server)
    return TDengineSource(**asdict(params.tdengine), **asdict(server), classes=classes, buffer_frames=params.buffer_frames)


def main() -> None:
    params, classes = read_params("fetch", Fetch), read_params("classes", ActionNames)
    # a queue runs in a temporary clone: an absolute path keeps what an interrupted fetch has
    scratch = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"))
    source = open_source(params, classes, scratch)
    query = {"fetch": asked(asdict(params)), "source": source.query()}
    with RawStore(RAW, query, params.page_frames, scratch) as store:
        with tqdm(unit="frame", desc=f"fetch from {params.source}") as bar:
            source.fetch(store, bar.update)
        record = store.publish()
    print(f"fetch: {len(record['received'])} recordings, {record['frames']} frames")


if __name__ == "__main__":
    run(main)
