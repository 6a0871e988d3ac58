"""Where new frames come from: a text export that grows, or the table of a device in TDengine. A feed never waits."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from thermal_action import InputError
from thermal_action.raw import PayloadFormat, RawFrame
from thermal_action.repair import PixelRepair
from thermal_action.sources.options import Server, TDengine
from thermal_action.sources.tdengine.frames import probe_format, read_frame
from thermal_action.sources.tdengine.rest import Client, Credentials, Transport, Unreachable
from thermal_action.sources.tdengine.table import TICKS, Columns, SensorTable, read_precision, table_name
from thermal_action.streams import Frame, Stream, checked, parse_line

# later than any frame, in ticks of any precision
EVER = 1 << 62
# how a device's table is named where the path of a file could stand
TABLE = "tdengine:"


class Feed(Protocol):
    """read: the frames that came since the last call, in order of time, whole. Unreachable while their source is away, InputError
    for what waiting does not cure. damaged: how many were no frames and were left out."""

    damaged: int

    def read(self) -> list[Frame]: ...


class TextFeed:
    """Lines that are appended to a text export (streams.py); a file that is begun anew is read from its beginning."""

    def __init__(self, path: str | Path, size: tuple[int, int], packet_px: int):
        self.path, self.size, self.packet_px = Path(path), size, packet_px
        self.damaged = 0
        self.begin()

    def begin(self) -> None:
        self.place, self.header, self.rest = 0, "", ""
        self.repair = PixelRepair(*self.size, self.packet_px)

    def read(self) -> list[Frame]:
        try:
            if self.path.stat().st_size < self.place:
                self.begin()
            with open(self.path, encoding="ascii", errors="replace", newline="") as file:
                file.seek(self.place)
                text = file.read()
                self.place = file.tell()
        except OSError as error:
            raise Unreachable(f"{self.path} cannot be read ({error.strerror}): see that the export runs") from None
        *lines, self.rest = (self.rest + text).split("\n")
        frames = []
        for line in lines:
            if not self.header:
                self.header = line
                if not line.startswith("ARRAYTYPE="):
                    raise InputError(f"{self.path} begins with {line[:40]!r}, where a line ARRAYTYPE=... is expected")
            elif line.strip():
                try:
                    frames.append(parse_line(line + "\n", self.repair, str(self.path)))
                except InputError:
                    self.damaged += 1
        return frames


class TableFeed:
    """Rows that are appended to the table of the device `mac_address`; of those there are the first call gives the last `begin`,
    or begins with those of `since` (ms).

    User and password, or a token, come from the environment. retries: as of the server, or 0 for who asks again anyway.
    """

    def __init__(self, mac_address: str, source: TDengine, server: Server, size: tuple[int, int], packet_px: int, *,
                 begin: int = 0, since: int | None = None, retries: int = 0):
        columns = source.columns
        self.columns = Columns(columns.ts, columns.frame_data, columns.width, columns.height, columns.frame_seq)
        self.source, self.size, self.page_rows = source, size, server.page_rows
        self.count, self.since = begin, since
        self.name = table_name(source.table, mac_address)
        transport = Transport(server.url, server.connect_timeout_s, server.read_timeout_s, server.deadline_s, retries=retries,
                              accept_gzip=server.accept_gzip, token_in_url=server.token_in_url)
        self.client = Client(transport, Credentials.from_environment())
        self.repair = PixelRepair(*size, packet_px)
        self.table: SensorTable | None = None
        self.payload: PayloadFormat | None = None
        self.cursor, self.last_ms, self.damaged = -1, -1, 0

    def frames(self) -> Iterator[Frame]:
        """Those there are, until a reading brings no row. Says how many rows were left out."""
        before = None
        while before != self.cursor:
            before = self.cursor
            yield from self.read()
        if self.damaged:
            print(f"{self.name}: rows that hold no frame were left out: {self.damaged}", file=sys.stderr)

    def connect(self) -> SensorTable:
        self.client.detect()
        ticks = TICKS[read_precision(self.client, self.source.database)]
        table = SensorTable(self.client, self.source.database, self.name, self.columns, ticks, self.page_rows)
        if self.since is not None:
            self.cursor = self.since * ticks - 1
        elif keys := table.keys_until(EVER, self.count):
            self.cursor = keys[0][0] - 1
        return table

    def read(self) -> list[Frame]:
        self.table = self.table or self.connect()
        rows = self.table.rows_after(self.cursor)
        if not rows:
            return []
        frames = self.readable(rows)
        if self.payload is None:
            self.payload = probe_format(frames, self.name, self.source.encoding, self.source.compression, self.source.dtype)
        whole = [frame for frame in map(self.decode, frames) if frame is not None]
        self.cursor = rows[-1][0]
        return whole

    def readable(self, rows: list[list]) -> list[RawFrame]:
        """Without rows that hold no frame; InputError if the first rows ever seen hold none at all: then the names are wrong."""
        frames, shape = [], (self.source.width, self.source.height)
        for row in rows:
            try:
                frames.append(read_frame(row, self.name, self.columns, shape, self.table.ticks))
            except InputError:
                if self.payload is None and not frames and row is rows[-1]:
                    raise
                self.damaged += 1
        return frames

    def decode(self, raw: RawFrame) -> Frame | None:
        """None for a second frame of one millisecond, and for one that is none."""
        if (raw.height, raw.width) != self.size:
            raise InputError(f"table {self.name}, ts {raw.ts}: this frame has {raw.height} x {raw.width} pixels, the model sees"
                             f" {self.size[0]} x {self.size[1]}: take the model of this sensor")
        if raw.ts == self.last_ms:
            return None
        self.last_ms = raw.ts
        try:
            pixels = self.payload.decode(raw.frame_data)
            if pixels.size > self.repair.pixels:
                raise ValueError(f"{pixels.size} pixels")
            return Frame(raw.ts, *self.repair.repair(pixels)[:2])
        except ValueError:
            self.damaged += 1
            return None


def open_table(sensor: str, source: TDengine, server: Server, size: tuple[int, int], packet_px: int, since: int | None) -> Stream:
    """The frames from `since` (ms; None: the first) to now in the table of `sensor`, which is TABLE and a MAC address."""
    mac_address = sensor.removeprefix(TABLE)
    feed = TableFeed(mac_address, source, server, size, packet_px, since=since or 0, retries=server.retries)
    return Stream(mac_address.replace(":", "_").lower(), size, None, checked(feed.frames(), sensor))
