"""Frames per second of the TDengine source beside a bare `requests` read of the same bytes from the same server.

run  PYTHONPATH=stages python benchmarks/tdengine_read.py [--frames 3000] [--rounds 5]

The stand-in of tests/tdengine_server.py serves 60x40 frames (base64 of zlib float32) from a process of its own. `bare`
posts the pages' own statements through one keep-alive session and takes `.content`: no JSON, no check, no file. `parsed`
adds what nobody can do without, json.loads. `source` is all: keys, COUNT(*), paging, JSON, decoding every frame once,
pages on disk. Rounds alternate between them, so that a busy machine slows all alike.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests

from thermal_action.raw_store import RawStore
from thermal_action.sources.tdengine import TDengineSource

SERVER = Path(__file__).resolve().parent.parent / "tests" / "tdengine_server.py"
START, DEVICES, PAGE_ROWS = 1_760_000_000_000, 4, 1000


def annotate(folder: Path, frames: int) -> int:
    """One recording a device, whose windows cover all frames but the first; how many frames those are."""
    folder.mkdir()
    for device in range(DEVICES):
        records = [{"data_id": f"R{device}", "mac_address": f"02:00:00:00:00:{device:02x}", "annotator_id": "benchmark",
                    "annotation_time": START, "data_time": START + number * 170 + 100, "annotations": []}
                   for number in range(129, frames, 200)]
        (folder / f"R{device}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return DEVICES * (min(frames, 129 + (frames - 130) // 200 * 200 + 129) - 1)


def read_pages(url: str, frames: int, use: Callable[[bytes], object]) -> int:
    """The statements that the source sends for its frames, one after the other; the bytes that came."""
    received = 0
    with requests.Session() as session:
        session.trust_env = False
        session.auth = ("root", "taosdata")
        session.headers["Accept-Encoding"] = "identity"
        for device in range(DEVICES):
            for first in range(0, frames, PAGE_ROWS):
                begin, end = START + first * 170 - 1, START + min(frames, first + PAGE_ROWS) * 170 - 1
                sql = ("select cast(`ts` as bigint),`frame_data`,`width`,`height`,`frame_seq` from "
                       f"`thermal`.`sensor_02_00_00_00_00_{device:02x}` where `ts`>{begin} and `ts`<={end} "
                       f"order by `ts` limit {PAGE_ROWS}")
                content = session.post(f"{url}/rest/sql", data=sql).content
                use(content)
                received += len(content)
    return received


def fetch(url: str, keyframes: Path, connections: int) -> None:
    source = TDengineSource(url=url, database="thermal", keyframes=keyframes, classes=["sitting"], connections=connections,
                            page_rows=PAGE_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        store = RawStore(Path(folder) / "raw", {"source": source.query()}, 500, Path(folder) / "scratch")
        source.fetch(store, lambda frames: None)
        store.publish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3000, help=f"frames of each of the {DEVICES} devices")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"TDENGINE_USER": "root", "TDENGINE_PASSWORD": "taosdata"}
    command = [sys.executable, str(SERVER), "--frames", str(options.frames), "--tables", str(DEVICES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as folder:
        try:
            url = server.stdout.readline().strip()
            compare(url, Path(folder) / "keyframes", options)
        finally:
            server.terminate()


def compare(url: str, keyframes: Path, options: argparse.Namespace) -> None:
    fetched, everything = annotate(keyframes, options.frames), DEVICES * options.frames
    size = read_pages(url, options.frames, len)  # the server renders its answers once, before anything is timed
    runs = {
        "bare": (everything, lambda: read_pages(url, options.frames, len)),
        "parsed": (everything, lambda: read_pages(url, options.frames, lambda content: json.loads(content.decode("latin-1")))),
        **{f"source, {connections} connection{'s' * (connections > 1)}":
           (fetched, lambda connections=connections: fetch(url, keyframes, connections)) for connections in (1, 2, 4)},
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (frames, run) in runs.items():
            begin = time.perf_counter()
            run()
            rates[name].append(frames / (time.perf_counter() - begin))
    bare = statistics.median(rates["bare"])
    print(f"{everything} frames stored, {fetched} within keyframes' windows, {size / everything:.0f} bytes a frame, "
          f"{options.rounds} rounds\n")
    print(f"{'':24}{'median':>10}{'lowest':>10}{'highest':>10}   frames/s{'of bare':>10}")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:24}{middle:10.0f}{min(values):10.0f}{max(values):10.0f}{'':11}{middle / bare:10.2f}")


if __name__ == "__main__":
    main()
