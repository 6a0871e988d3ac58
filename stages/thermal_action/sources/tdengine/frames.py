"""Rows as raw frames, each looked at once: a frame that the next stage could not decode stops the fetch, with its place."""

from thermal_action import InputError, shown
from thermal_action.raw import PayloadFormat, RawFrame, detect_format
from thermal_action.sources.tdengine.table import Columns, whole

# so many whole frames of a sensor tell its format
PROBED_FRAMES = 3


def read_frame(row: list, table: str, columns: Columns, shape: tuple[int | None, int | None], ticks: int) -> RawFrame:
    """A row of SensorTable.pages as a RawFrame; `shape` (width, height) stands in where the table has no such columns."""
    time, text, width, height, sequence = row
    place = f"table {table}, ts {time}"
    if text is None:
        raise InputError(f"{place}: {columns.frame_data} is null: delete the row or fill it")
    if not isinstance(text, str):
        raise InputError(f"{place}: {columns.frame_data} is {shown(text)}, not a text: `columns.frame_data` must name the "
                         "payload's column")
    if not text:
        raise InputError(f"{place}: {columns.frame_data} is empty: fill the row, and note that TDengine 2.x sends texts of "
                         "16384 bytes and more as empty ones (taosAdapter does not)")
    if not text.isascii():
        raise InputError(f"{place}: {columns.frame_data} holds raw bytes ({text[:12]!r}...): only base64, hex, JSON text "
                         "and VARBINARY travel unharmed")
    return RawFrame(
        ts=time // ticks,
        frame_seq=time // ticks if columns.frame_seq is None else whole(sequence, place, columns.frame_seq),
        width=shape[0] if columns.width is None else pixels(width, place, columns.width),
        height=shape[1] if columns.height is None else pixels(height, place, columns.height),
        frame_data=text,
    )


def pixels(value: object, place: str, column: str) -> int:
    size = whole(value, place, column)
    if not 1 <= size <= 4096:
        raise InputError(f"{place}: {column} is {size}, not a number of pixels between 1 and 4096")
    return size


def probe_format(frames: list[RawFrame], table: str, encoding: str, compression: str, dtype: str) -> PayloadFormat:
    """The format of the first three whole ones among a sensor's first frames; InputError when none fits, or they differ."""
    found: list[tuple[PayloadFormat, int]] = []
    problem = None
    for frame in frames:
        try:
            found.append((detect_format(frame, encoding, compression, dtype), frame.ts))
        except InputError as error:
            # a frame with lost packets is shorter and proves nothing; FrameCheck looks at it later
            problem = problem or str(error)
        if len(found) == PROBED_FRAMES:
            break
    if not found:
        raise InputError(f"table {table}: {problem}")
    payload = found[0][0]
    for other, ts in found[1:]:
        if other != payload:
            raise switched(table, ts, payload, other)
    return payload


class FrameCheck:
    """Holds one sensor's frames to the format and size of its first ones."""

    def __init__(self, table: str, payload: PayloadFormat, width: int, height: int):
        self.table, self.payload, self.width, self.height = table, payload, width, height

    def check(self, frame: RawFrame) -> None:
        """InputError when the payload is undecodable, too long or of another format; a shorter one has lost packets."""
        if (frame.width, frame.height) != (self.width, self.height):
            raise InputError(f"table {self.table}, ts {frame.ts}: this frame has {frame.width}x{frame.height} pixels, the "
                             f"first ones {self.width}x{self.height}: one recording has one size")
        try:
            received = self.payload.decode(frame.frame_data).size
        except ValueError as error:
            self._refuse_switch(frame)
            raise InputError(f"table {self.table}, ts {frame.ts}: {frame.frame_data[:24]!r}... is no "
                             f"{describe(self.payload)} like the first frames ({error}): correct or delete the "
                             "row") from None
        expected = frame.width * frame.height
        # JSON has as many numbers in either dtype, so that only the values tell them apart
        if received != expected or self.payload.encoding == "json":
            self._refuse_switch(frame)
        if not 0 < received <= expected:
            raise InputError(f"table {self.table}, ts {frame.ts}: the payload holds {received} pixels where the frame has "
                             f"{expected}: correct or delete the row")

    def _refuse_switch(self, frame: RawFrame) -> None:
        try:
            other = detect_format(frame)
        except InputError:
            return
        same = (other.encoding, other.dtype) == (self.payload.encoding, self.payload.dtype)
        if not same or other.compression != self.payload.compression and other.encoding != "json":
            raise switched(self.table, frame.ts, self.payload, other)


def switched(table: str, ts: int, first: PayloadFormat, other: PayloadFormat) -> InputError:
    return InputError(f"table {table}, ts {ts}: this frame is {describe(other)}, the first ones are {describe(first)}: "
                      "fetch the two parts as two recordings, or correct the rows")


def describe(payload: PayloadFormat) -> str:
    return f"{payload.encoding} of {'' if payload.compression == 'none' else payload.compression + ' '}{payload.dtype}"
