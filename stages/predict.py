"""Says of recordings that nobody annotated who is there, where, and what they are doing.

in   a model (models/best.pt, or an .onnx file of stages/export.py, which needs no torch) and recordings: .h5 files, folders of
     the hdf5 or fetch stage, .txt exports of the sensor (thermal_action/streams.py), or tdengine:<mac address>, a device's table
     as `fetch.tdengine` and `server` of params.yaml describe it, from --since to now (stages/watch.py goes on from there)
out  <out>/<recording>.jsonl   a line a moment: time, persons with identity, box, score, action, probabilities
     <out>/<recording>.csv     the same, a line a person
     <out>/<recording>.mp4     with --film: the thermal picture with all that, and a time line of actions
run  python stages/predict.py models/best.pt data/frames --out predictions --film mp4
"""

import argparse
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import dropwhile, takewhile
from pathlib import Path

from tqdm import tqdm

from thermal_action import InputError
from thermal_action.live.feeds import EVER, TABLE, open_table
from thermal_action.moments import Abstention, MomentWriter, observe_all, read_moments
from thermal_action.params import read_params
from thermal_action.recogniser import ThermalActionRecognizer
from thermal_action.script import run
from thermal_action.sources.options import Fetch, Server
from thermal_action.streams import Stream, open_streams

BATCH = 8  # windows looked at together


def milliseconds(text: str) -> int:
    """An ISO 8601 time, UTC where it names no zone."""
    given = datetime.fromisoformat(text)
    return round((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("recording", nargs="+", help="a file or folder of recordings, or tdengine:<mac address>")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder of the predictions (default: predictions)")
    parser.add_argument("--since", type=milliseconds, help="first time, as 2026-01-05T07:00 (UTC; default: the first frame's)")
    parser.add_argument("--until", type=milliseconds, help="last time (default: the last frame's; of a table: now)")
    parser.add_argument("--every", type=int, default=6, help="say something about every so many frames (default: 6, a second)")
    parser.add_argument("--score", type=float, default=0.3, help="persons whom the detector is less sure of are nobody")
    parser.add_argument("--damaged", type=float, default=0.5, help="abstain if more of the frames lost pixels")
    parser.add_argument("--gap", type=float, default=6.0, help="abstain if a window lacks frames for more seconds")
    parser.add_argument("--packet-px", type=int, default=576, help="of raw frames: pixels of a packet of the link")
    parser.add_argument("--film", choices=["mp4", "gif"], help="make a film of each recording too")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    if options.every < 1:
        parser.error(f"--every {options.every}: give at least 1")
    if options.until is None and any(place.startswith(TABLE) for place in options.recording):
        options.until = round(time.time() * 1000)  # a table may grow for ever
    return options


def open_place(place: str, options: argparse.Namespace, size: tuple[int, int]) -> list[Stream]:
    """The recordings of a file, a folder or a table, from --since to --until."""
    if place.startswith(TABLE):
        source, server = read_params("fetch", Fetch).tdengine, read_params("server", Server)
        streams = [open_table(place, source, server, size, options.packet_px, options.since)]
    else:
        streams = open_streams(place, size, options.packet_px)
    if options.since is None and options.until is None:
        return streams
    since, until = options.since or 0, EVER if options.until is None else options.until
    return [replace(stream, total=None, frames=takewhile(lambda frame: frame.time <= until,
                                                         dropwhile(lambda frame: frame.time < since, stream.frames)))
            for stream in streams]


def find_streams(options: argparse.Namespace, size: tuple[int, int]) -> dict[str, str]:
    """The place that holds each recording; InputError for two of one name, whose predictions would be one file."""
    found: dict[str, str] = {}
    for place in options.recording:
        for stream in open_place(place, options, size):
            if stream.name in found:
                raise InputError(f"{place} and {found[stream.name]} both hold a recording {stream.name}: predict them apart")
            found[stream.name] = place
    return found


def open_stream(place: str, name: str, options: argparse.Namespace, size: tuple[int, int]) -> Stream:
    return next(stream for stream in open_place(place, options, size) if stream.name == name)


def predict(recognizer: ThermalActionRecognizer, stream: Stream, options: argparse.Namespace) -> Counter:
    """Writes what the model says of a recording; counts moments, persons and abstentions."""
    counts = Counter()
    with MomentWriter(options.out / stream.name, recognizer.classes) as writer, \
            tqdm(stream.frames, total=stream.total, unit="frame", desc=stream.name) as frames:
        for moment in observe_all(recognizer, stream.name, frames, every=options.every, batch=BATCH,
                                  abstention=Abstention(options.damaged, options.gap)):
            writer.write(moment)
            counts.update(moments=1, persons=len(moment.persons), abstained=moment.abstained is not None)
    return counts


def main() -> None:
    options = read_arguments()
    recognizer = ThermalActionRecognizer(options.model, options.device, options.score)
    size = recognizer.frame_size
    counts = Counter()
    for name, place in find_streams(options, size).items():
        counts.update(predict(recognizer, open_stream(place, name, options, size), options))
        if options.film:
            film(open_stream(place, name, options, size), recognizer.classes, options)
    print(f"predict: {counts['moments']} moments with {counts['persons']} persons; nothing said of {counts['abstained']} moments")


def film(stream: Stream, classes: list[str], options: argparse.Namespace) -> None:
    from thermal_action.overlay import draw_frames, write_film

    moments = read_moments(options.out / f"{stream.name}.jsonl")
    spans = [(later.time - earlier.time) / options.every for earlier, later in zip(moments, moments[1:], strict=False)]
    fps = 1000 * len(spans) / sum(spans) if spans else 6.0
    with tqdm(stream.frames, total=stream.total, unit="frame", desc=f"{stream.name} film") as frames:
        write_film(options.out / f"{stream.name}.{options.film}", draw_frames(frames, moments, classes), fps)


if __name__ == "__main__":
    run(main)
