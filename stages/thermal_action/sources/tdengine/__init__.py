"""Frames around keyframes from TDengine, one table per device, over REST.

The keyframe files say which recordings there are. A recording is the union of the windows of `buffer_frames` frames on
each side of each of its keyframes, counted as frames. Whatever interrupts a fetch, whole pages stay in the store, and the
next run goes on behind them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from thermal_action import InputError
from thermal_action.files import fingerprint
from thermal_action.keyframes import Keyframe, read_keyframe_files
from thermal_action.raw import Progress
from thermal_action.raw_store import RawStore
from thermal_action.sources.tdengine.fetch import Fetch, Plan
from thermal_action.sources.tdengine.frames import pixels
from thermal_action.sources.tdengine.rest import Credentials, Transport, check_range
from thermal_action.sources.tdengine.table import Columns, checked_database, checked_pattern, table_name

__all__ = ["Columns", "TDengineSource"]

CHOICES = {"encoding": ("auto", "base64", "hex", "json"), "compression": ("auto", "zlib", "none"),
           "dtype": ("auto", "float32", "int16")}


class TDengineSource:
    """Reads `database` of a server; user and password, or a token, come from the environment only.

    keyframes: folder of keyframe files; classes: the known actions.
    table: name of a device's table, with {mac} for its address in lower case and underscores ({MAC}: upper case).
    columns: names, see Columns; a null width or height (pixels) is given by the parameter of that name instead.
    encoding, compression, dtype: how frame_data holds pixels; "auto" finds it in each sensor's first frames.
    max_distance_ms: a keyframe whose nearest frame is further away is an error.
    connections: requests side by side; page_rows: frames per request; further names are rest.Transport's (url, timeouts,
    retries, ...). `sleep` replaces the pauses between retries.
    """

    def __init__(self, *, database: str, keyframes: str | Path, classes: Sequence[str], table: str = "sensor_{mac}",
                 columns: Columns | Mapping[str, str | None] | None = None, width: int | None = None, height: int | None = None,
                 buffer_frames: int = 128, max_distance_ms: int = 1000, encoding: str = "auto", compression: str = "auto",
                 dtype: str = "auto", connections: int = 4, page_rows: int = 1000,
                 sleep: Callable[[float], object] | None = None, **transport):
        self.transport = Transport(**transport)
        self.database, self.table, self.columns = checked_database(database), checked_pattern(table), as_columns(columns)
        self.keyframes, self.classes = Path(keyframes), list(classes)
        self.shape = (size_of("width", self.columns.width, width), size_of("height", self.columns.height, height))
        self.buffer_frames = check_range("buffer_frames", buffer_frames, 0, 100_000)
        self.max_distance_ms = check_range("max_distance_ms", max_distance_ms, 0, 3_600_000)
        self.connections = check_range("connections", connections, 1, 8)
        self.page_rows = check_range("page_rows", page_rows, 1, 10_000)
        self.format = {"encoding": encoding, "compression": compression, "dtype": dtype}
        for name, value in self.format.items():
            if value not in CHOICES[name]:
                raise InputError(f"{name} is {value!r}, none of {', '.join(CHOICES[name])}")
        self.sleep = sleep
        self._files: dict[Path, list[Keyframe]] | None = None

    @property
    def files(self) -> dict[Path, list[Keyframe]]:
        """The keyframe files, read and checked once."""
        if self._files is None:
            self._files = read_keyframe_files(self.keyframes, self.classes)
        return self._files

    def query(self) -> dict:
        """What decides the frames; neither the server's address nor how requests travel."""
        return {
            "source": "tdengine", "database": self.database, "table": self.table, "columns": asdict(self.columns),
            "width": self.shape[0], "height": self.shape[1], "buffer_frames": self.buffer_frames,
            "max_distance_ms": self.max_distance_ms, **self.format,
            "recordings": {records[0].data_id: {"mac_address": records[0].mac_address,
                                                "keyframes": fingerprint([asdict(record) for record in records])}
                           for records in self.files.values()},
        }

    def fetch(self, store: RawStore, progress: Progress) -> None:
        """Brings all recordings into `store`; those complete there are not asked for, others go on behind their last page.

        The frames of a recording follow from the times of its keyframes: another box in one of them asks for nothing.

        InputError for what asking again will not cure, and when the server stays away; the store keeps whole pages.
        """
        plans = []
        common = {key: value for key, value in self.query().items() if key != "recordings"}
        for path, records in self.files.items():
            recording = records[0].data_id
            table = table_name(self.table, records[0].mac_address)
            raw = store.recording(recording, common | {"table": table, "times": [record.data_time for record in records]})
            store.put_keyframes(recording, records)
            plans.append(Plan(path, records, table, raw))
            progress(plans[-1].raw.frames)
        if not all(plan.raw.complete for plan in plans):
            Fetch(self, Credentials.from_environment(), progress).run(plans)


def as_columns(columns: Columns | Mapping[str, str | None] | None) -> Columns:
    if isinstance(columns, Columns):
        return columns
    unknown = sorted(set(columns or {}) - set(Columns.__dataclass_fields__))
    if unknown:
        raise InputError(f"columns has the unknown key {unknown[0]!r}: known are {', '.join(Columns.__dataclass_fields__)}")
    return Columns(**(columns or {}))


def size_of(name: str, column: str | None, value: int | None) -> int | None:
    if (column is None) == (value is None):
        raise InputError(f"columns.{name} is {column!r} and {name} is {value!r}: name the column that holds it or give its "
                         "number of pixels, one of the two")
    return value if value is None else pixels(value, "tdengine", name)
