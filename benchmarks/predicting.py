"""How fast a model says something of a window on one core, and how much memory a day of frames takes; as tables in Markdown.

run  PYTHONPATH=stages python benchmarks/predicting.py models/best.pt [models/best.onnx ...] --recordings data/frames
     PYTHONPATH=stages python benchmarks/predicting.py models/best.pt --recordings data/frames --hours 24

Each model looks at the same windows of the recordings, one at a time (as watch.py) and several together (as predict.py), in turn
with the others, on one thread; time is processor time. With --hours the recordings are played over and over, as one long one, and
the most memory that the process ever held is told after ten minutes and at the end.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from tqdm import tqdm

from predict import BATCH
from thermal_action.moments import Abstention, observe_all
from thermal_action.recogniser import ThermalActionRecognizer
from thermal_action.streams import Frame, open_streams, slide

PERIOD_MS, FRAMES_AN_HOUR = 170, 21_600


def read_windows(recordings: Path, recognizer: ThermalActionRecognizer, count: int) -> list[np.ndarray]:
    windows = (window.frames for stream in open_streams(recordings, recognizer.frame_size)
               for window in slide(stream.frames, recognizer.windowing, 30))
    return list(islice(windows, count))


def compare_speed(recognizers: dict[str, ThermalActionRecognizer], windows: list[np.ndarray]) -> None:
    alone = {name: {} for name in recognizers}
    together = {name: [] for name in recognizers}
    for first in tqdm(range(0, len(windows), BATCH), unit_scale=BATCH, desc="windows"):
        batch = windows[first : first + BATCH]
        for name, recognizer in recognizers.items():
            for window in batch:
                persons, spent = timed(recognizer.detect, window)
                alone[name].setdefault(len(persons), []).append(spent)
            together[name].append(timed(recognizer.detect_all, batch)[1] / len(batch))
    counts = sorted({count for each in alone.values() for count in each})
    print("| ms a window, median | " + " | ".join(f"{count} persons" for count in counts) + f" | all | {BATCH} together |")
    print("|---|" + "---:|" * (len(counts) + 2))
    for name, each in alone.items():
        everything = [value for values in each.values() for value in values]
        cells = [f"{np.median(each[count]):.1f} ({len(each[count])})" if count in each else "-" for count in counts]
        print(f"| {name} | " + " | ".join(cells) + f" | {np.median(everything):.1f} | {np.median(together[name]):.1f} |")


def timed(look: Callable, frames: Any) -> tuple[list, float]:
    """What `look` answers, and the milliseconds it took."""
    begun = time.process_time()
    answer = look(frames)
    return answer, 1000 * (time.process_time() - begun)


def play(recordings: Path, size: tuple[int, int], count: int) -> Iterator[Frame]:
    """`count` frames, evenly timed: the recordings over and over."""
    streams = cycle(range(len(open_streams(recordings, size))))
    frames = (frame for number in streams for frame in open_streams(recordings, size)[number].frames)
    for number, frame in enumerate(islice(frames, count)):
        yield Frame(PERIOD_MS * number, frame.picture, frame.lost)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_memory(recognizer: ThermalActionRecognizer, recordings: Path, hours: float, every: int) -> None:
    total = round(hours * FRAMES_AN_HOUR)
    frames = tqdm(play(recordings, recognizer.frame_size, total), total=total, unit="frame", desc="a long recording")
    early = None
    observed = observe_all(recognizer, "long", frames, every=every, batch=BATCH, abstention=Abstention())
    for moment in observed:
        if early is None and moment.time > 600_000:
            early = memory_mb()
    print(f"{hours:g} hours, {total} frames: {early:.0f} MB after ten minutes, {memory_mb():.0f} MB at the end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="+")
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--hours", type=float, help="of a long recording")
    parser.add_argument("--every", type=int, default=60, help="frames between two moments of the long recording")
    options = parser.parse_args()
    recognizers = {path.name: ThermalActionRecognizer(path) for path in options.model}
    first = next(iter(recognizers.values()))
    if options.hours:
        measure_memory(first, options.recordings, options.hours, options.every)
    else:
        compare_speed(recognizers, read_windows(options.recordings, first, options.windows))


if __name__ == "__main__":
    main()
