"""Raw frames -> one HDF5 file per recording: decoded, ordered, de-duplicated, lost pixels repaired and counted; of videos, evenly
sampled pictures.

in   data/raw                       pages of raw frames, or videos, and the query they answer
out  data/frames/<recording>.h5     frames [N, H, W] C or [N, H, W, 3], timestamps, frame_seqs, corrupted, lost_pixels
     data/frames/sensor_info.json   what each recording holds and what was repaired
run  python stages/hdf5.py
"""

import os
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated, Literal

from tqdm import tqdm

from thermal_action.conversion import Conversion
from thermal_action.files import code_sha256, replacing_folder, write_json
from thermal_action.kept import Kept
from thermal_action.params import Field, PictureSize, parse_size, read_params, section
from thermal_action.raw import read_query
from thermal_action.runtime import Runtime
from thermal_action.script import run

RAW, FRAMES = Path("data/raw"), Path("data/frames")
KEPT = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"), "hdf5")


@section
class Clip:
    """What is kept of a video."""

    frames: Annotated[int, Field(ge=2, le=1024)]
    size: PictureSize


@section
class Hdf5:
    compression: Literal["gzip", "lzf", "none"]
    level: Annotated[int, Field(ge=1, le=9)]  # of gzip
    packet_px: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    clip: Clip = Clip(frames=64, size="native")

    def conversion(self, raw: Path) -> Conversion:
        return Conversion(raw, self.compression, self.level, self.packet_px, self.clip.frames, parse_size(self.clip.size))


def main() -> None:
    params, runtime = read_params("hdf5", Hdf5), read_params("runtime", Runtime)
    query = read_query(RAW, read_params("fetch", dict))
    # absolute: whoever does the work may be another process, on another machine
    conversion, kept = params.conversion(RAW.absolute()), Kept(KEPT.absolute())
    code, info, keys, taken = code_sha256(__file__), {}, set(), 0
    with replacing_folder(FRAMES) as folder, runtime.open_pool() as pool:
        jobs = {pool.submit(conversion.provide, recording, received, folder.absolute(), kept, code): recording
                for recording, received in query["received"].items()}
        with tqdm(total=query["frames"], unit="frame", desc="hdf5") as bar:
            for job in as_completed(jobs):
                key, as_it_was, entry = job.result()
                info[jobs[job]] = entry
                keys.add(key)
                taken += as_it_was
                bar.update(query["received"][jobs[job]]["frames"])
        write_json(folder / "sensor_info.json", info)
    kept.forget_all_but(keys)
    total = {key: sum(entry[key] for entry in info.values())
             for key in ("total_frames", "corrupted_frames", "lost_pixels", "moved_frames")}
    repaired = (f", {total['corrupted_frames']} of them with {total['lost_pixels']} lost pixels, all repaired and counted;"
                f" packets put back in place in {total['moved_frames']}") if total["corrupted_frames"] else ""
    print(f"hdf5: {len(info)} recordings ({taken} as they were), {total['total_frames']} frames{repaired}")


if __name__ == "__main__":
    run(main, alone=True)
