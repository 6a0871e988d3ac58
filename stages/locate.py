"""Says when which actions happen in recordings that nobody annotated.

in   a model (models/best.pt), the models/localizer.pt that learned from what it sees, and recordings: a .h5 file, a folder of
     the hdf5 or fetch stage, a .txt export of the sensor (thermal_action/streams.py)
out  <out>/<recording>.json   segments: label, score, start and end in s from the first frame and in ms (UTC)
     <out>/segments.csv       the same of all recordings, a line a segment
     <out>/<recording>.mp4    with --film: the thermal picture, and a time line of actions
     With --delay recordings are seen as they go on: each segment is said once, so many seconds after its end, by what has come
     until then (thermal_action/localization/causal.py), and said_ms is when.
run  python stages/locate.py models/best.pt pipelines/localization/models/localizer.pt data/frames --film mp4
     after `make localize`
"""

import argparse
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.files import file_sha256, replacing, write_json
from thermal_action.localization import require_package
from thermal_action.script import run
from thermal_action.streams import Frame, Stream, open_streams

if TYPE_CHECKING:
    from thermal_action.features import Timed
    from thermal_action.localization.checkpoints import Localizer
    from thermal_action.localization.segments import Segment
    from thermal_action.torch_file import TorchModel

BATCH = 8  # windows looked at together
COLUMNS = ["recording", "label", "score", "start_s", "end_s", "start_ms", "end_ms", "said_ms"]


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("localizer", type=Path)
    parser.add_argument("recordings", type=Path, help="a file or folder of recordings")
    parser.add_argument("--out", type=Path, default=Path("segments"), help="folder of the segments (default: segments)")
    parser.add_argument("--least", type=float, default=0.2, help="least score of a segment (default: 0.2)")
    parser.add_argument("--delay", type=float, help="say each segment so many seconds after its end, by what has come until then")
    parser.add_argument("--every", type=int, default=1, help="with --delay, steps from one look to the next (default: 1)")
    parser.add_argument("--film", choices=["mp4", "gif"], help="make a film of each recording too")
    parser.add_argument("--packet-px", type=int, default=576, help="of raw frames: pixels of a packet of the link")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    if options.every < 1:
        parser.error(f"--every {options.every}: give at least 1")
    if not 0 <= options.least < 1:
        parser.error(f"--least {options.least}: give 0 or more, and less than 1")
    if options.delay is not None and not 0 <= options.delay < float("inf"):
        parser.error(f"--delay {options.delay}: give 0 or more")
    return options


def open_models(options: argparse.Namespace) -> tuple["TorchModel", "Localizer"]:
    """InputError unless the localizer has learned from features of the model."""
    from thermal_action.features import open_model
    from thermal_action.localization.checkpoints import read_localizer
    from thermal_action.localization.engine import choose_device

    device = choose_device(options.device)
    localizer = read_localizer(options.localizer, device)
    learned = localizer.features.model
    model = open_model(options.model, device, learned.weights, learned.seed)
    if (sha256 := file_sha256(options.model)) != learned.sha256:
        raise InputError(f"{options.localizer} has learned from features of a model with the sha256 {learned.sha256[:16]}...,"
                         f" {options.model} has {sha256[:16]}...: give that model, or run `dvc repro` in pipelines/localization")
    return model, localizer


def find_at_once(model: "TorchModel", localizer: "Localizer", frames: "Timed") -> list["Segment"]:
    """The segments of a whole recording, the most certain first."""
    from thermal_action.features import describe
    from thermal_action.localization.inference import find

    made = localizer.features
    rows = np.array(list(describe(model, frames, 1000 * made.step_s, least=made.model.score, batch=BATCH)))
    return find(localizer, rows, frames.duration_s) if len(rows) else []


def find_as_it_comes(model: "TorchModel", localizer: "Localizer", frames: Iterable[Frame], every: int,
                     ) -> Iterator[tuple[float, list["Segment"]]]:
    """When each look at a recording was that goes on (s), every `every` steps, and the segments in what there was of it."""
    from thermal_action.features import Growing, look_again
    from thermal_action.localization.causal import find_again

    made = localizer.features
    growing = Growing(model, 1000 * made.step_s, least=made.model.score, batch=BATCH, longest=localizer.model.max_seq_len)
    return find_again(localizer, look_again(growing, frames, every))


def locate(model: "TorchModel", localizer: "Localizer", stream: Stream, options: argparse.Namespace) -> dict:
    """What is written down of a recording."""
    from thermal_action.features import Timed
    from thermal_action.localization.causal import Said, say

    with tqdm(stream.frames, total=stream.total, unit="frame", desc=stream.name) as bar:
        frames = Timed(bar)
        if options.delay is None:
            found = find_at_once(model, localizer, frames)
            said = [Said(segment, None) for segment in found if segment.score >= options.least]
        else:
            said = list(say(find_as_it_comes(model, localizer, frames, options.every), options.delay, options.least))
    if frames.count < 2 or frames.duration_s < localizer.features.step_s / 2:
        raise InputError(f"{stream.name} is shorter than half a step of {localizer.features.step_s:.3g} s: leave it out")
    return {"recording": stream.name, "first_ms": frames.first, "duration": round(frames.duration_s, 3), "frames": frames.count,
            "delay": options.delay, "segments": [to_record(*each, localizer.names, frames.first) for each in said]}


def to_record(segment: "Segment", said: float | None, names: list[str], first_ms: int) -> dict:
    seconds = [round(segment.start, 3), round(segment.end, 3)]
    return {"label": names[segment.label], "score": round(segment.score, 6), "segment": seconds,
            "segment_ms": [first_ms + round(1000 * second) for second in seconds],
            **({} if said is None else {"said_ms": first_ms + round(1000 * said)})}


def film(stream: Stream, document: dict, names: list[str], options: argparse.Namespace) -> None:
    from thermal_action.localization.film import Spell, draw_spells
    from thermal_action.overlay import write_film

    spells = [Spell(*each["segment_ms"], names.index(each["label"]), each["score"], each.get("said_ms"))
              for each in document["segments"]]
    with tqdm(stream.frames, total=document["frames"], unit="frame", desc=f"{stream.name} film") as frames:
        write_film(options.out / f"{stream.name}.{options.film}", draw_spells(frames, spells, names),
                   (document["frames"] - 1) / document["duration"])


def list_rows(documents: Iterable[dict]) -> Iterator[list]:
    """A line of the table for each segment."""
    for document in documents:
        for each in document["segments"]:
            yield [document["recording"], each["label"], each["score"], *each["segment"], *each["segment_ms"],
                   each.get("said_ms")]


def main() -> None:
    options = read_arguments()
    require_package()
    model, localizer = open_models(options)
    place = options.recordings, tuple(model.info["frame_size"]), options.packet_px
    documents = []
    for number, stream in enumerate(open_streams(*place)):
        documents.append(locate(model, localizer, stream, options))
        write_json(options.out / f"{stream.name}.json", documents[-1])
        if options.film:
            film(open_streams(*place)[number], documents[-1], localizer.names, options)
    rows = list(list_rows(documents))
    with replacing(options.out / "segments.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    print(f"locate: {len(rows)} segments of {len({label for _, label, *_ in rows})} actions in {len(documents)} recordings")


if __name__ == "__main__":
    run(main)
