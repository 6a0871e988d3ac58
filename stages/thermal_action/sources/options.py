"""The sections `fetch` and `server` of params.yaml."""

from typing import Annotated, Literal

from thermal_action import InputError
from thermal_action.params import Field, section


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
    nights: Annotated[float, Field(ge=0, le=1)]
    animals: Annotated[float, Field(ge=0, le=1)]
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
class Place:
    location: str | None
    checksum: Annotated[str, Field(pattern="^((sha256:)?[0-9a-f]{64}|md5:[0-9a-f]{32})$")] | None


@section
class Videos:
    train: Place
    test: Place
    damaged: Literal["refuse", "skip"]


@section
class Lookalike:
    seed: Annotated[int, Field(ge=0)]
    subjects: Annotated[int, Field(ge=2, le=99)]
    test_subjects: Annotated[int, Field(ge=0, le=98)]
    videos: Annotated[int, Field(ge=1, le=99)]
    rows: Annotated[int, Field(ge=16, le=512, multiple_of=2)]  # pixels
    cols: Annotated[int, Field(ge=16, le=512, multiple_of=2)]


@section
class Fetch:
    """The settings of a source may be left out of a params.yaml that does not fetch from it."""

    source: Literal["simulator", "archive", "tdengine", "videos", "lookalike"]
    buffer_frames: Annotated[int, Field(ge=0, le=100_000)] = 0
    page_frames: Annotated[int, Field(ge=1, le=100_000)] = 500
    simulator: Simulator | None = None
    archive: Archive | None = None
    tdengine: TDengine | None = None
    videos: Videos | None = None
    lookalike: Lookalike | None = None


def check_fetch(fetch: Fetch) -> None:
    """What no single field can know; InputError names both."""
    if getattr(fetch, fetch.source) is None:
        raise InputError(f"params.yaml: fetch.source is {fetch.source}, but there is no section fetch.{fetch.source}: add it")


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
