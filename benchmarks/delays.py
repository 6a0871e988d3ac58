"""What it costs to say segments a fixed delay after their end in place of when all is known; as a table in Markdown.

run  in pipelines/localization, after its stages:
     PYTHONPATH=../../stages python ../../benchmarks/delays.py ../../models/best.pt models/localizer.pt

On one core, on the validation recordings (data/frames, data/segments.json); the scores are those of the stage localize. `after`
is how long after its end a segment scored 0.2 or more is said, but for those that are said because their recording ends.
"""

import argparse
import os
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTORCH_JIT"] = "0"

import numpy as np
import torch
from tqdm import tqdm

from locate import find_as_it_comes, find_at_once, open_models
from thermal_action.features import Timed
from thermal_action.files import read_json
from thermal_action.localization.causal import Said, say
from thermal_action.localization.samples import TIOU
from thermal_action.localization.scores import Scorer
from thermal_action.localization.segments import to_results
from thermal_action.streams import open_streams

FRAMES, SEGMENTS = Path("data/frames"), Path("data/segments.json")
LEAST, SURE = 0.001, 0.2
SHOWN = ("mAP", "mAP@0.30", "mAP@0.50", "mAP@0.70", "AR@100")


def measure_wait(said: list[Said], end: float) -> list[float]:
    """Seconds from the end of each sure segment to when it was said, in a recording that ends at `end`."""
    return [time - segment.end for segment, time in said if time is not None and time < end and segment.score >= SURE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("localizer", type=Path)
    parser.add_argument("--delays", type=float, nargs="+", default=[2, 5, 10, 20], help="seconds (default: 2 5 10 20)")
    parser.add_argument("--every", type=int, default=1, help="steps from one look to the next (default: 1)")
    parser.set_defaults(device="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, localizer = open_models(options)
    said, ends, spent = {"all is known": {}} | {f"{delay:g}": {} for delay in options.delays}, {}, []
    names = [name for name, each in read_json(SEGMENTS)["database"].items() if each["subset"] == "validation"]
    for name in tqdm(names, unit="recording"):
        once, again = (Timed(open_streams(FRAMES / f"{name}.h5", tuple(model.info["frame_size"]))[0].frames) for _ in range(2))
        said["all is known"][name] = [Said(segment, None) for segment in find_at_once(model, localizer, once)]
        begun = time.process_time()
        looks = list(find_as_it_comes(model, localizer, again, options.every))  # the same for all delays
        spent.append((time.process_time() - begun) / len(looks))
        for delay in options.delays:
            said[f"{delay:g}"][name] = list(say(looks, delay, LEAST))
        ends[name] = once.duration_s
    print(f"A look every {options.every * localizer.features.step_s:.2f} s takes {1000 * np.mean(spent):.0f} ms.\n")
    print("| delay, s | " + " | ".join(SHOWN) + " | after, s: median (95 %) |")
    print("|---|" + "---:|" * (len(SHOWN) + 1))
    for delay, recordings in said.items():
        scorer = Scorer(str(SEGMENTS), "validation", TIOU, dict(enumerate(localizer.names)))
        scorer.evaluate(to_results({name: [each.segment for each in own] for name, own in recordings.items()}))
        waits = [wait for name, own in recordings.items() for wait in measure_wait(own, ends[name])]
        after = f"{np.median(waits):.1f} ({np.percentile(waits, 95):.1f})" if waits else "-"
        print(f"| {delay} | " + " | ".join(f"{100 * scorer.scores[score]:.1f}" for score in SHOWN) + f" | {after} |")


if __name__ == "__main__":
    main()
