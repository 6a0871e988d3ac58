"""data/raw: what fetch writes and hdf5 reads. Raw frames as the device sent them, or video files, and the record of the query.

    query.json                       what was asked and what was received; written last, so that it stands for a whole fetch
    keyframes/<recording>.jsonl      the keyframe files
    frames/<recording>/000000.jsonl  pages of `page_frames` raw frames, one JSON object a line
    frames/<recording>/video.*       in their place: the video that the recording is
    frames/<recording>/complete.json frames, first and last time, format
    timeline/<recording>.json        the simulator's truth
    split.json                       an archive's given split, or which recordings are for testing alone
"""

import binascii
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal

import numpy as np
import pybase64
from isal import isal_zlib
from pydantic import TypeAdapter

from thermal_action import InputError
from thermal_action.files import code_sha256, read_json
from thermal_action.keyframes import MAC_ADDRESS, RECORDING_ID
from thermal_action.params import STRICT, Field
from thermal_action.records import record

# int16 payloads count tenths of a kelvin
KELVIN_OFFSET = 273.15
NUMBERS = {"float32": np.dtype("<f4"), "int16": np.dtype("<i2")}
# what a device writes for a pixel that it lost: no ceiling is that cold
LOST = {"float32": -273.2, "int16": 0}
# a payload read with the wrong type gives absurd temperatures; -273.2 C stands for a lost pixel
PLAUSIBLE_C = (-300.0, 700.0)
# a line of a page, read in a third of the time that JSON takes
LINE = re.compile(rb'\{"ts":(-?[0-9]{1,19}),"frame_seq":(-?[0-9]{1,19}),"width":([1-9][0-9]{0,8}),"height":([1-9][0-9]{0,8}),'
                  rb'"frame_data":"(.*)"\}\n', re.DOTALL)
READ_AHEAD = 1 << 16  # bytes


@dataclass(frozen=True)
class RawFrame:
    """One row of the device's table: time in ms (UTC), sequence number, columns, rows, payload text."""

    ts: int
    frame_seq: int
    width: int
    height: int
    frame_data: str

    def to_line(self) -> str:
        return json.dumps(vars(self), separators=(",", ":")) + "\n"


@dataclass(frozen=True)
class PayloadFormat:
    """How `frame_data` holds the pixels: float32 is degrees C, int16 is deci-Kelvin (C = dK/10 - 273.15), little-endian."""

    __pydantic_config__ = STRICT

    encoding: Literal["base64", "hex", "json"] = "base64"
    compression: Literal["zlib", "none"] = "zlib"
    dtype: Literal["float32", "int16"] = "float32"

    def decode(self, frame_data: str) -> np.ndarray:
        """float32 [n] degrees C in row-major order; n is below width * height when packets were lost. ValueError if broken."""
        return self.celsius(self._received(frame_data))

    def numbers(self, frame_data: str, pixels: int) -> np.ndarray:
        """[pixels] as they were sent, to be made `celsius` many frames at a time; those that did not arrive as the device marks
        lost ones. ValueError if broken.
        """
        numbers = self._received(frame_data)
        if numbers.size == pixels:
            return numbers
        if numbers.size > pixels:
            raise ValueError(f"{numbers.size} pixels")
        return np.concatenate([numbers, np.full(pixels - numbers.size, LOST[self.dtype], numbers.dtype)])

    def celsius(self, numbers: np.ndarray) -> np.ndarray:
        return numbers.astype(np.float32) if self.dtype == "float32" else from_decikelvin(numbers)

    def encode(self, celsius: np.ndarray) -> str:
        """The inverse, as the device writes it; exact for float32, to 0.05 C for int16."""
        values = np.asarray(celsius, dtype="<f4").ravel()
        if self.dtype == "int16":
            values = np.rint((values + KELVIN_OFFSET) * 10).astype("<i2")
        if self.encoding == "json":
            return json.dumps(values.tolist(), separators=(",", ":"))
        payload = values.tobytes()
        if self.compression == "zlib":
            payload = zlib.compress(payload, 1)
        return payload.hex() if self.encoding == "hex" else binascii.b2a_base64(payload, newline=False).decode()

    def _received(self, frame_data: str) -> np.ndarray:
        """[n] as they were sent: float32 or int16, float64 if they came as JSON."""
        if self.encoding == "json":
            return json_numbers(frame_data)
        payload = self._payload(frame_data)
        if len(payload) % NUMBERS[self.dtype].itemsize:
            raise ValueError(f"{len(payload)} bytes are no whole number of {self.dtype} pixels")
        return np.frombuffer(payload, NUMBERS[self.dtype])

    def _payload(self, frame_data: str) -> bytes:
        payload = bytes.fromhex(frame_data) if self.encoding == "hex" else pybase64.b64decode(frame_data, validate=True)
        if self.compression == "none":
            return payload
        stream = isal_zlib.decompressobj()
        try:
            # bounded: a frame of at most 16 MiB, whatever a broken or hostile stream claims
            decoded = stream.decompress(payload, 1 << 24)
        except isal_zlib.error as error:
            raise ValueError(f"no zlib stream: {error}") from None
        if not stream.eof:
            raise ValueError("the zlib stream is cut off")
        return decoded


@dataclass(frozen=True)
class VideoFormat:
    """What a video is: FFmpeg's name of its codec, frames a second as a fraction, size of the picture in pixels."""

    __pydantic_config__ = STRICT

    codec: str
    rate: Annotated[str, Field(pattern=r"^[1-9]\d{0,8}(/[1-9]\d{0,8})?$")]
    width: int
    height: int

    def times_ms(self, indices: np.ndarray) -> np.ndarray:
        """int64 ms at which the frames of these numbers (from 0) end: the first one is over after one period."""
        period_ms = 1000 / Fraction(self.rate)
        return np.array([round((index + 1) * period_ms) for index in indices.tolist()], dtype=np.int64)


def read_format(payload: Mapping[str, Any]) -> PayloadFormat | VideoFormat:
    """How a recording holds its frames, as its entry in query.json says."""
    return FORMAT.validate_json(json.dumps(payload), strict=True)


@record
class Received:
    """What complete.json, and query.json after it, says of a recording."""

    frames: int
    first_ts: int
    last_ts: int
    payload: PayloadFormat | VideoFormat
    facts: dict[str, Any]


FORMAT, RECEIVED = TypeAdapter(PayloadFormat | VideoFormat), TypeAdapter(Received)


def from_decikelvin(numbers: np.ndarray) -> np.ndarray:
    """Tenths of a kelvin as degrees C, float32: of every int16 what float64 gives, in a quarter of the time."""
    celsius = numbers - np.float32(10 * KELVIN_OFFSET)
    celsius /= np.float32(10)
    return celsius.astype(np.float32, copy=False)


def json_numbers(text: str) -> np.ndarray:
    """float64 [n] of a JSON list of numbers, or of lists of them; null is NaN. ValueError for any other text."""
    try:
        numbers = json.loads(text)
        if not isinstance(numbers, list):
            raise ValueError(f"a JSON {type(numbers).__name__} where a list of pixels is expected")
        values = np.array(numbers, dtype=object).ravel()  # a row a list, or all in one
        if not {*map(type, values)} <= {int, float, NoneType}:
            raise ValueError("a JSON list that holds more than numbers")  # numpy would read "12" and true as numbers, too
        return values.astype(np.float64)
    except (OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def detect_format(frame: RawFrame, encoding: str = "auto", compression: str = "auto", dtype: str = "auto") -> PayloadFormat:
    """The only format in which this frame, a whole one, has width * height plausible pixels; InputError when none fits.

    The decoded size decides exactly: 4 bytes a pixel is float32, 2 are int16, and no text fits two encodings.
    """
    for candidate_encoding in ("base64", "hex", "json") if encoding == "auto" else (encoding,):
        for candidate_compression in ("zlib", "none") if compression == "auto" else (compression,):
            for candidate_dtype in ("float32", "int16") if dtype == "auto" else (dtype,):
                payload = PayloadFormat(candidate_encoding, candidate_compression, candidate_dtype)
                if fits(payload, frame):
                    return payload
    raise InputError(f"the frame of {frame.ts} ({frame.frame_data[:24]!r}..., {len(frame.frame_data)} characters) is no "
                     f"{frame.width}x{frame.height} picture in encoding {encoding}, compression {compression}, dtype {dtype}: "
                     "check these parameters and the frame size")


def fits(payload: PayloadFormat, frame: RawFrame) -> bool:
    try:
        pixels = payload.decode(frame.frame_data)
    except ValueError:
        return False
    valid = pixels[np.isfinite(pixels)]
    in_range = np.mean((valid > PLAUSIBLE_C[0]) & (valid < PLAUSIBLE_C[1])) if valid.size else 0.0
    # denormal floats are what two int16 look like when read as one float
    denormal = payload.dtype == "float32" and valid.size and np.mean((valid != 0) & (np.abs(valid) < 1e-6)) > 0.5
    return pixels.size == frame.width * frame.height and in_range > 0.9 and not denormal


def encoder() -> dict:
    """What decides the bytes of frames that are made here, not received: the code and its libraries."""
    return {"code": code_sha256(__file__), "versions": [np.__version__, zlib.ZLIB_RUNTIME_VERSION]}


def asked(fetch: dict) -> dict:
    """What of the section `fetch` decides the frames: everything but the settings, or their absence, of sources not chosen."""
    chosen = fetch.get("source")
    return {key: value for key, value in fetch.items() if not isinstance(value, dict | NoneType) or key == chosen}


def read_query(raw_dir: str | Path, fetch: dict) -> dict:
    """query.json of a complete fetch that asked for just what `fetch` says; else InputError with the command to type."""
    path = Path(raw_dir) / "query.json"
    if not path.exists():
        raise InputError(f"{path} is missing, so {raw_dir} holds no complete fetch: run `dvc repro fetch` (it goes on where it "
                         "stopped) or `dvc pull`")
    query = read_json(path)
    try:
        wanted, got = asked(fetch), dict(query["asked"]["fetch"])
        # recordings name files: what somebody pulls must not write elsewhere
        sound = type(query["frames"]) is int and all(RECORDING_ID.fullmatch(name) and is_received(facts)
                                                     for name, facts in query["received"].items())
    except (AttributeError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError(f"{path} is no record of a fetch: run `dvc repro --force --single-item fetch`")
    different = sorted(key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key))
    if different:
        raise InputError(f"{path} was fetched with another `fetch` section (different: {', '.join(different)}): run "
                         "`dvc repro --force --single-item fetch`, or set params.yaml back")
    return query


def is_received(facts: Any) -> bool:
    """Whether it is what a complete.json holds."""
    try:
        RECEIVED.validate_json(json.dumps(facts, allow_nan=False, ensure_ascii=False).encode(), strict=True)
    except (TypeError, ValueError, RecursionError):  # also half a character, which query.json could not repeat
        return False
    return True


def device_of(raw_dir: str | Path, recording: str) -> str:
    """The MAC address of the sensor that took a recording, as its keyframe file says; InputError for a damaged one."""
    path = Path(raw_dir) / "keyframes" / f"{recording}.jsonl"
    try:
        with open(path, encoding="utf-8") as file:
            return MAC_ADDRESS.fullmatch(json.loads(file.readline())["mac_address"])[0]
    except (FileNotFoundError, KeyError, TypeError, ValueError, RecursionError):
        raise InputError(f"{path} names no device: run `dvc repro --force --single-item fetch`") from None


def pages(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.jsonl"))


def video_of(folder: Path) -> Path | None:
    """The video file of a recording, if it is one."""
    return next(iter(sorted(folder.glob("video.*"))), None)


def read_page(path: Path) -> Iterator[RawFrame]:
    """The frames of one page; InputError naming page and line for a damaged one."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            yield parse_frame(line, f"{path}, line {number}")


def parse_frame(line: bytes, place: str) -> RawFrame:
    """One line of a page; InputError for a damaged one."""
    written = LINE.fullmatch(line)
    try:
        if not written:
            raise ValueError
        *numbers, text = written.groups()
        text = text.decode("ascii")
        frame = RawFrame(*map(int, numbers), json.loads(f'"{text}"') if "\\" in text else text)
        if not -1 << 63 <= min(frame.ts, frame.frame_seq) <= max(frame.ts, frame.frame_seq) < 1 << 63:
            raise ValueError
        return frame
    except ValueError:
        raise InputError(f"{place} is no raw frame: run `dvc repro --force --single-item fetch`") from None


def ordered_frames(folder: Path) -> Iterator[tuple[RawFrame, bool]]:
    """All frames of a recording by time, and whether one repeats the time before it (the first one counts).

    Two passes: times and file positions first (a few bytes a frame), then one line after the other, so that a recording
    of a day needs no more memory than one of a minute.
    """
    places: list[tuple[int, int, int]] = []
    files = pages(folder)
    for number, page in enumerate(files):
        offset = 0
        with open(page, "rb", READ_AHEAD) as file:
            for line in file:
                written = LINE.fullmatch(line)
                if not written:
                    raise InputError(f"{page} has a line that is no raw frame: run `dvc repro --force --single-item fetch`")
                places.append((int(written[1]), number, offset))
                offset += len(line)
    places.sort()
    yield from read_in_order(files, places)


def read_in_order(files: Sequence[Path], places: Iterable[tuple[int, int, int]]) -> Iterator[tuple[RawFrame, bool]]:
    open_number, file, page, previous = -1, None, "", None
    try:
        for ts, number, offset in places:
            if number != open_number:
                if file:
                    file.close()
                file, page, open_number = open(files[number], "rb", READ_AHEAD), str(files[number]), number
            file.seek(offset)
            yield parse_frame(file.readline(), f"{page}, frame of {ts}"), ts == previous
            previous = ts
    finally:
        if file:
            file.close()


Progress = Callable[[int], None]
