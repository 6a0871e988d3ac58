"""Follows a sensor live, and says when somebody should be woken.

in   a model (models/best.pt or an .onnx file), and a sensor: tdengine:<mac address>, a device's table as `fetch.tdengine` and
     `server` of params.yaml describe it, or a .txt export that grows; the rules of pipelines/alarms/params.yaml
out  a line of JSON for each event, as it comes about (thermal_action/live/follow.py)
run  python stages/watch.py models/best.pt tdengine:02:00:1a:62:51:67          ends with Ctrl-C
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from thermal_action.alarms.furniture import Furniture, find_furniture
from thermal_action.alarms.rules import Accumulator, Rules, check_rules
from thermal_action.live.feeds import TABLE, Feed, TableFeed, TextFeed
from thermal_action.live.follow import Follower
from thermal_action.moments import Abstention, Observer
from thermal_action.params import read_params
from thermal_action.recogniser import ThermalActionRecognizer
from thermal_action.script import run
from thermal_action.sources.options import Fetch, Server


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("sensor", help="tdengine:<mac address>, or a .txt export that grows")
    parser.add_argument("--rules", type=Path, default=Path("pipelines/alarms/params.yaml"), help="file with a section `rules`")
    parser.add_argument("--beds", type=Path, help="keyframe file of this sensor that says where beds and chairs stand; without it"
                        " those count that the model sees")
    parser.add_argument("--every", type=int, default=6, help="look at every so many frames (default: 6, a second)")
    parser.add_argument("--score", type=float, default=0.2, help="persons whom the detector is less sure of are nobody")
    parser.add_argument("--damaged", type=float, default=0.5, help="abstain if more of the frames lost pixels")
    parser.add_argument("--gap", type=float, default=6.0, help="abstain if a window lacks frames for more seconds")
    parser.add_argument("--packet-px", type=int, default=576, help="pixels of a packet of the link")
    parser.add_argument("--poll", type=float, default=0.25, help="seconds between two looks for new frames")
    parser.add_argument("--silent", type=float, default=30.0, help="say so after so many seconds without a frame")
    parser.add_argument("--moments", action="store_true", help="write what everybody does at every moment, too")
    options = parser.parse_args()
    if options.every < 1 or options.poll <= 0:
        parser.error(f"--every {options.every} --poll {options.poll}: give at least 1, and more than 0")
    return options


def open_feed(options: argparse.Namespace, recognizer: ThermalActionRecognizer) -> tuple[str, Feed]:
    """(name of the sensor, its frames)."""
    if not options.sensor.startswith(TABLE):
        return Path(options.sensor).stem, TextFeed(options.sensor, recognizer.frame_size, options.packet_px)
    mac_address = options.sensor.removeprefix(TABLE)
    source, server = read_params("fetch", Fetch).tdengine, read_params("server", Server)
    return mac_address, TableFeed(mac_address, source, server, recognizer.frame_size, options.packet_px,
                                  begin=2 * recognizer.windowing.length)


def main() -> None:
    options = read_arguments()
    recognizer = ThermalActionRecognizer(options.model, score=options.score)
    rules = read_params("rules", Rules, options.rules)
    check_rules(rules, recognizer.classes, options.rules)
    if rules.beds == "drawn" and options.beds is None:
        rules = replace(rules, beds="seen")
    furniture = Furniture() if options.beds is None else find_furniture(options.beds, recognizer.classes)
    name, feed = open_feed(options, recognizer)
    observer = Observer(recognizer, name, Abstention(options.damaged, options.gap))
    accumulator = Accumulator(rules, recognizer.classes, furniture, recognizer.frame_size)
    follower = Follower(feed, observer, accumulator, every=options.every, tell_moments=options.moments, silent_s=options.silent)
    for event in follower.events(stop=lambda: False, pause=lambda: time.sleep(options.poll)):
        print(json.dumps(event, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    run(main)
