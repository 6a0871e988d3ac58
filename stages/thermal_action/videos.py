"""Video files: looked through, sampled evenly, written. PyAV, so FFmpeg's own readers, does the work.

The times of a video's frames are counted, frame by frame at its mean rate, not read: containers of clips lack them or lie.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from thermal_action import InputError
from thermal_action.files import file_sha256
from thermal_action.raw import VideoFormat

# of a video that does not say its rate, frames a second,
USUAL_RATE = Fraction(25)
# or one at which its frames would be at the same millisecond, or years apart
RATES = (Fraction(1, 1000), Fraction(1000))
# FFmpeg's names of .avi and .mp4: it knows lists of other files, too, and would read those in place of the one that was checked
ONLY = {"format_whitelist": "avi,mov", "protocol_whitelist": "file"}
# frames that decoding may give less than the container counts: codecs of the time of AVI count one that is in none of the packets
MISCOUNT = 1


def decoder() -> dict:
    """What decides how a video is understood beside its bytes: this code and FFmpeg."""
    return {"videos": file_sha256(__file__), "ffmpeg": av.library_versions}


class DamagedVideo(Exception):
    """What is wrong with a video file, as the end of a sentence that begins with its name."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A video and its first video stream. Whatever FFmpeg says against it, also in between, is raised as DamagedVideo."""
    try:
        with av.open(str(path), options=ONLY, metadata_errors="replace") as container:
            if not container.streams.video:
                raise DamagedVideo("holds no video")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise DamagedVideo("is cut before it says how to decode it, or coded in a way unknown here")
            stream.codec_context.thread_count = 1  # the same frames whoever has how many cores, and one video a process
            yield container, stream
    except av.error.FFmpegError as error:
        what = "is empty" if not path.stat().st_size else f"cannot be decoded ({error.strerror})"
        raise DamagedVideo(what) from None


def inspect_video(path: Path) -> tuple[VideoFormat, int]:
    """Decodes all of a video: (its format, its frames). DamagedVideo for a file that is none, is cut short or damaged."""
    with opened(path) as (container, stream):
        frames = 0
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise DamagedVideo(f"is damaged at its frame {frames}")
            frames += 1
        if frames < 1 or frames + MISCOUNT < stream.frames:
            raise DamagedVideo(f"holds {frames} frames that can be decoded, of {stream.frames} that it counts")
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        rate = rate.limit_denominator(100_000) if RATES[0] <= rate <= RATES[1] else USUAL_RATE
        return VideoFormat(stream.codec_context.name, str(rate), stream.width, stream.height), frames


def read_pictures(path: Path, wanted: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """uint8 [n, H, W, 3] red, green, blue: the frames of a video with the numbers `wanted` [n], which rise.

    size: (H, W) to which they are resampled, each pixel the mean of what it covers; None leaves them as they are.
    InputError for a video that does not give these frames.
    """
    height, width = size or (None, None)
    pictures, remedy = [], "run `dvc repro --force --single-item fetch`"
    try:
        with opened(path) as (container, stream):
            for number, frame in enumerate(container.decode(stream)):
                if number == wanted[len(pictures)]:
                    pictures.append(frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray())
                    if len(pictures) == len(wanted):
                        return np.stack(pictures)
    except DamagedVideo as error:
        raise InputError(f"{path} {error}: {remedy}") from None
    raise InputError(f"{path} ends before its frame {wanted[-1]}, which fetch has counted: {remedy}")


def write_video(path: Path, pictures: Iterable[np.ndarray], rate: int, *, bit_rate: int) -> None:
    """uint8 [H, W, 3] pictures, of even sides, as MPEG-4 in the container of the file's name; the same bytes for the same ones.

    rate: frames a second; bit_rate: bits a second.
    """
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = container.add_stream("mpeg4", rate=rate)
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
                stream.codec_context.thread_count, stream.codec_context.bit_rate = 1, bit_rate
                stream.codec_context.flags |= av.codec.context.Flags.bitexact
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
