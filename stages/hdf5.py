"""Raw frames -> one HDF5 file per recording: decoded, ordered, de-duplicated, lost pixels repaired and counted.

in   data/raw                       pages of raw frames and the query they answer
out  data/frames/<recording>.h5     frames [N, H, W] C, timestamps, frame_seqs, corrupted, lost_pixels
     data/frames/sensor_info.json   what each recording holds and what was repaired
run  python stages/hdf5.py
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal

import h5py
import numpy as np
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.files import code_sha256, file_sha256, fingerprint, replacing_folder, write_json
from thermal_action.kept import Kept
from thermal_action.params import Field, read_params, section
from thermal_action.raw import PayloadFormat, device_of, pages, read_page, read_query
from thermal_action.recordings import write_recording
from thermal_action.repair import RepairCounts, decode_frames
from thermal_action.runtime import Runtime
from thermal_action.script import run

RAW, FRAMES = Path("data/raw"), Path("data/frames")
KEPT = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"), "hdf5")


@section
class Hdf5:
    compression: Literal["gzip", "lzf", "none"]
    level: Annotated[int, Field(ge=1, le=9)]  # of gzip
    packet_px: Annotated[int, Field(ge=0, le=1_000_000)]


def convert_recording(recording: str, received: dict, mac_address: str, target: Path, params: Hdf5) -> dict:
    """Writes one recording and returns its entry of sensor_info.json."""
    folder, counts = RAW / "frames" / recording, RepairCounts()
    first = next(read_page(pages(folder)[0]))
    shape = (first.height, first.width)
    frames = decode_frames(folder, PayloadFormat(**received["payload"]), shape, params.packet_px, counts)
    write_recording(target, frames, sensor_id=recording, mac_address=mac_address, height=shape[0],
                    width=shape[1], compression=params.compression, level=params.level)
    if counts.frames + counts.duplicate_frames != received["frames"]:
        raise InputError(f"{folder} holds {counts.frames + counts.duplicate_frames} frames, but query.json says "
                         f"{received['frames']}: run `dvc repro --force --single-item fetch`")
    return {"mac_address": mac_address, "height": shape[0], "width": shape[1], "total_frames": counts.frames,
            "min_timestamp": received["first_ts"], "max_timestamp": received["last_ts"],
            "corrupted_frames": counts.corrupted_frames, "lost_pixels": counts.lost_pixels,
            "moved_frames": counts.moved_frames, "unrepaired_pixels": counts.unrepaired_pixels,
            "duplicate_frames": counts.duplicate_frames, "sha256": file_sha256(target)}


def provide_recording(recording: str, received: dict, mac_address: str, folder: Path, params: Hdf5, code: dict,
                      ) -> tuple[str, bool, dict]:
    """Writes one recording, or takes it over from an earlier run; (key that it is kept by, whether taken over, its entry)."""
    raw = {page.name: file_sha256(page) for page in pages(RAW / "frames" / recording)}
    key = fingerprint({"recording": recording, "received": received, "mac_address": mac_address, "raw": raw, "code": code,
                       "params": asdict(params), "versions": [h5py.version.hdf5_version, np.__version__]})
    kept, target = Kept(KEPT), folder / f"{recording}.h5"
    if entry := kept.restore(key, target):
        return key, True, entry
    entry = convert_recording(recording, received, mac_address, target, params)
    kept.keep(key, target, entry)
    return key, False, entry


def say_nothing() -> None:
    """Of a worker, whose jobs give their errors back: h5py prints a traceback for every object of a file it cannot finish."""
    sys.excepthook = sys.unraisablehook = lambda *_: None


def main() -> None:
    params, runtime = read_params("hdf5", Hdf5), read_params("runtime", Runtime)
    query = read_query(RAW, read_params("fetch", dict))
    code, info, keys, taken = code_sha256(__file__), {}, set(), 0
    workers = ProcessPoolExecutor(runtime.cores, mp_context=get_context("spawn"), initializer=say_nothing)
    with replacing_folder(FRAMES) as folder, workers as pool:
        jobs = {pool.submit(provide_recording, recording, received, device_of(RAW, recording), folder, params, code): recording
                for recording, received in query["received"].items()}
        with tqdm(total=query["frames"], unit="frame", desc="hdf5") as bar:
            for job in as_completed(jobs):
                try:
                    key, kept, entry = job.result()
                except BrokenProcessPool:  # HDF5 crashes where it cannot write
                    raise InputError(f"a process that wrote to {folder} was ended by the system: see that the disk has space and"
                                     " the machine memory, then run it again") from None
                info[jobs[job]] = entry
                keys.add(key)
                taken += kept
                bar.update(entry["total_frames"] + entry["duplicate_frames"])
        write_json(folder / "sensor_info.json", info)
    Kept(KEPT).forget_all_but(keys)
    total = {key: sum(entry[key] for entry in info.values())
             for key in ("total_frames", "corrupted_frames", "lost_pixels", "moved_frames")}
    print(f"hdf5: {len(info)} recordings ({taken} as they were), {total['total_frames']} frames, {total['corrupted_frames']} of "
          f"them with {total['lost_pixels']} lost pixels, all repaired and counted; packets put back in place in "
          f"{total['moved_frames']}")


if __name__ == "__main__":
    run(main, alone=True)
