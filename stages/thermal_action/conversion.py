"""Raw recordings into HDF5 files, each by itself: by any process or machine that sees the folders, or not again at all."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import h5py
import isal
import numpy as np

from thermal_action import InputError
from thermal_action.files import file_sha256, fingerprint
from thermal_action.kept import Kept
from thermal_action.raw import VideoFormat, device_of, pages, read_format, read_page, video_of
from thermal_action.recordings import Frames, Recording, write_recording
from thermal_action.repair import RepairCounts, decode_frames
from thermal_action.windows import spread_evenly


@dataclass(frozen=True)
class Conversion:
    """What all recordings are converted with. `raw` is a folder that RawStore published; `compression`, `level` as of
    write_recording, `packet_px` as of decode_frames; of videos, `clip_frames` evenly spread ones, of `clip_size` (H, W), or as
    they are.
    """

    raw: Path
    compression: Literal["gzip", "lzf", "none"]
    level: int
    packet_px: int
    clip_frames: int
    clip_size: tuple[int, int] | None

    def convert(self, recording: str, received: dict, target: Path) -> dict:
        """Writes one recording, of which query.json says `received`, and returns its entry of sensor_info.json."""
        counts, mac_address = RepairCounts(), device_of(self.raw, recording)
        read = self.sample_video if isinstance(read_format(received["payload"]), VideoFormat) else self.decode_pages
        write_recording(target, read(self.raw / "frames" / recording, received, counts), sensor_id=recording,
                        mac_address=mac_address, compression=self.compression, level=self.level)
        with Recording(target) as written:
            times, height, width = written.timestamps, written.height, written.width
        return {"mac_address": mac_address, "height": height, "width": width, "total_frames": counts.frames,
                "min_timestamp": int(times[0]), "max_timestamp": int(times[-1]),
                "corrupted_frames": counts.corrupted_frames, "lost_pixels": counts.lost_pixels,
                "moved_frames": counts.moved_frames, "unrepaired_pixels": counts.unrepaired_pixels,
                "duplicate_frames": counts.duplicate_frames, "sha256": file_sha256(target)}

    def decode_pages(self, folder: Path, received: dict, counts: RepairCounts) -> Iterator[Frames]:
        if not pages(folder):
            raise InputError(f"{folder} holds no frames: run `dvc repro --force --single-item fetch`")
        first = next(read_page(pages(folder)[0]))
        yield from decode_frames(folder, read_format(received["payload"]), (first.height, first.width), self.packet_px, counts)
        if counts.frames + counts.duplicate_frames != received["frames"]:
            raise InputError(f"{folder} holds {counts.frames + counts.duplicate_frames} frames, but query.json says "
                             f"{received['frames']}: run `dvc repro --force --single-item fetch`")

    def sample_video(self, folder: Path, received: dict, counts: RepairCounts) -> Iterator[Frames]:
        from thermal_action.videos import read_pictures  # thermal recordings need no FFmpeg

        video = video_of(folder)
        counted = 0 < received["frames"] < 1 << 31
        if not counted or video is None or file_sha256(video) != received["facts"].get("sha256"):
            raise InputError(f"{folder} does not hold the video that was fetched: run `dvc repro --force --single-item fetch`")
        numbers = np.unique(spread_evenly(received["frames"], self.clip_frames))  # all frames where there are fewer
        pictures, counts.frames = read_pictures(video, numbers, self.clip_size), len(numbers)
        yield Frames(read_format(received["payload"]).times_ms(numbers), numbers, pictures, np.zeros(len(numbers), np.int32))

    def fingerprint(self, recording: str, received: dict, code: dict[str, str]) -> str:
        """Stands for everything that decides the file: raw pages, parameters, `code` and versions."""
        folder = self.raw / "frames" / recording
        raw = {file.name: file_sha256(file) for file in (*pages(folder), *filter(None, [video_of(folder)]))}
        if isinstance(read_format(received["payload"]), VideoFormat):
            from thermal_action.videos import decoder

            code = code | decoder()
        return fingerprint({"recording": recording, "received": received, "mac_address": device_of(self.raw, recording),
                            "raw": raw, "code": code, "params": {**asdict(self), "raw": None},
                            "versions": [h5py.version.hdf5_version, np.__version__, isal.__version__]})

    def provide(self, recording: str, received: dict, folder: Path, kept: Kept, code: dict[str, str]) -> tuple[str, bool, dict]:
        """Converts it into `folder`, or takes it over from an earlier run: (its key in `kept`, whether taken over, its entry)."""
        key, target = self.fingerprint(recording, received, code), folder / f"{recording}.h5"
        if entry := kept.restore(key, target):
            return key, True, entry
        entry = self.convert(recording, received, target)
        kept.keep(key, target, entry)
        return key, False, entry
