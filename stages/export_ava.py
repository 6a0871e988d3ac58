"""Writes annotations, and what the model says of them, as AVA's files, for tools that read only those.

in   data/annotations/{train,val}.json, and metrics/predictions.csv of the evaluate stage if named
out  a folder with train.csv, val.csv, actions.pbtxt and, if asked for, predictions.csv, as thermal_action/ava.py describes them
run  python stages/export_ava.py data/annotations ava --predictions metrics/predictions.csv
"""

import argparse
from pathlib import Path

from thermal_action import InputError
from thermal_action.annotations import Sample, read_annotations
from thermal_action.ava import index_keys, read_predictions, write_detections, write_label_map, write_truth
from thermal_action.script import run

SIDES = ("train", "val")


def read_sides(annotations: Path) -> tuple[dict[str, list[Sample]], list[str]]:
    """Both sides and their classes; InputError where they do not belong together, or a keyframe has no name of its own."""
    read = {side: read_annotations(annotations / f"{side}.json") for side in SIDES}
    if read["train"][1] != read["val"][1]:
        raise InputError(f"{annotations}: train.json and val.json differ in their classes: run `dvc repro coco`")
    for side, (samples, _) in read.items():
        index_keys(samples, annotations / f"{side}.json")
    return {side: samples for side, (samples, _) in read.items()}, read["val"][1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="folder of train.json and val.json")
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--predictions", type=Path, help="metrics/predictions.csv of the evaluate stage")
    options = parser.parse_args()
    sides, classes = read_sides(options.annotations)
    # before anything is written: what is wrong in it leaves nothing behind
    predictions = None if options.predictions is None else read_predictions(options.predictions, sides["val"], classes)
    write_label_map(options.folder / "actions.pbtxt", classes)
    said = []
    for side, samples in sides.items():
        rows, empty = write_truth(options.folder / f"{side}.csv", samples), sum(not len(sample.boxes) for sample in samples)
        said.append(f"{side}.csv {rows} persons of {len(samples)} keyframes ({empty} without any, which have no row)")
    if predictions is not None:
        said.append(f"predictions.csv {write_detections(options.folder / 'predictions.csv', predictions)} rows")
    print(f"export_ava: {options.folder} has {len(classes)} actions; {'; '.join(said)}")


if __name__ == "__main__":
    run(main)
