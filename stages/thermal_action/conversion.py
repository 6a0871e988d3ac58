"""Raw recordings into HDF5 files, each by itself: by any process or machine that sees the folders, or not again at all."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import h5py
import isal
import numpy as np

from thermal_action import InputError
from thermal_action.files import file_sha256, fingerprint
from thermal_action.kept import Kept
from thermal_action.raw import PayloadFormat, device_of, pages, read_page
from thermal_action.recordings import write_recording
from thermal_action.repair import RepairCounts, decode_frames


@dataclass(frozen=True)
class Conversion:
    """What all recordings are converted with. `raw` is a folder that RawStore published; `compression`, `level` as of
    write_recording, `packet_px` as of decode_frames.
    """

    raw: Path
    compression: Literal["gzip", "lzf", "none"]
    level: int
    packet_px: int

    def convert(self, recording: str, received: dict, target: Path) -> dict:
        """Writes one recording, of which query.json says `received`, and returns its entry of sensor_info.json."""
        folder, counts = self.raw / "frames" / recording, RepairCounts()
        first = next(read_page(pages(folder)[0]))
        shape, mac_address = (first.height, first.width), device_of(self.raw, recording)
        frames = decode_frames(folder, PayloadFormat(**received["payload"]), shape, self.packet_px, counts)
        write_recording(target, frames, sensor_id=recording, mac_address=mac_address, height=shape[0], width=shape[1],
                        compression=self.compression, level=self.level)
        if counts.frames + counts.duplicate_frames != received["frames"]:
            raise InputError(f"{folder} holds {counts.frames + counts.duplicate_frames} frames, but query.json says "
                             f"{received['frames']}: run `dvc repro --force --single-item fetch`")
        return {"mac_address": mac_address, "height": shape[0], "width": shape[1], "total_frames": counts.frames,
                "min_timestamp": received["first_ts"], "max_timestamp": received["last_ts"],
                "corrupted_frames": counts.corrupted_frames, "lost_pixels": counts.lost_pixels,
                "moved_frames": counts.moved_frames, "unrepaired_pixels": counts.unrepaired_pixels,
                "duplicate_frames": counts.duplicate_frames, "sha256": file_sha256(target)}

    def fingerprint(self, recording: str, received: dict, code: dict[str, str]) -> str:
        """Stands for everything that decides the file: raw pages, parameters, `code` and versions."""
        raw = {page.name: file_sha256(page) for page in pages(self.raw / "frames" / recording)}
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
