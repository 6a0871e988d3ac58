"""Runs variants with several seeds, and over all folds of a cross-validation, as DVC experiments that experiments.py compares.

in   a YAML file: the name of each variant and its parameters as `dvc exp run -S` takes them; a list may hold lists (anchors; a
     name that begins with a dot is nothing else) and recipes (.txt files); $NAME comes from the environment
out  experiments <variant>-s<seed>, with folds <variant>-s<seed>-f<fold>
run  python benchmarks/sweep.py benchmarks/variants.yaml [variant ...] --seeds 0 1 2 [--pipeline pipelines/transfer]

With --pipeline a seed is both pipelines': each starts from a model of its own, and all folds of a seed from the same.

Each runs in a temporary clone (`--temp`): the working tree stays as it is, and the path of an archive must be absolute.
Experiments that exist are skipped: a sweep that was interrupted goes on, inside a training too. By hand it is a loop of
`dvc exp run --temp -n <variant>-s<seed> -S train.seed=<seed> -S ...`.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

DVC = [sys.executable, "-m", "dvc"]
# stages are run by `python`: this one
ENVIRONMENT = {"THERMAL_SCRATCH": str(Path(".scratch").absolute())} | os.environ | {
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def flatten(parameters: list) -> list[str]:
    found = []
    for entry in parameters:
        if isinstance(entry, list):
            found += flatten(entry)
        elif entry.endswith(".txt"):
            found += [word for word in shlex.split(Path(entry).read_text(), comments=True) if word != "-S"]
        else:
            found.append(os.path.expandvars(entry))
    return found


def list_runs(variants: dict[str, list[str]], seeds: list[int], pipeline: str) -> Iterator[tuple[str, list[str]]]:
    """(name, parameters) of every experiment, all variants with the first seed first."""
    own = f"{pipeline}/params.yaml:" if pipeline else ""
    default = YAML(typ="safe").load(Path(pipeline, "params.yaml"))["coco"]["folds"]
    for seed in seeds:
        for variant, parameters in variants.items():
            seeded = [*parameters, *dict.fromkeys([f"train.seed={seed}", f"{own}train.seed={seed}"])]
            folds = int(next((entry.rpartition("=")[2] for entry in reversed(parameters)
                              if entry.startswith(f"{own}coco.folds=")), default))
            for fold in range(folds):
                yield f"{variant}-s{seed}-f{fold}", [*seeded, f"{own}coco.fold={fold}"]
            if not folds:
                yield f"{variant}-s{seed}", seeded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="variants")
    parser.add_argument("variant", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pipeline", default="", help="folder of another dvc.yaml, to run too")
    parser.add_argument("--all-commits", action="store_true", help="also skip experiments that began at other commits than HEAD")
    options = parser.parse_args()
    listed = {name: flatten(parameters) for name, parameters in YAML(typ="safe").load(Path(options.file)).items()
              if not name.startswith(".")}
    if unknown := set(options.variant) - set(listed):
        parser.error(f"{options.file} has no variant {', '.join(sorted(unknown))}")
    chosen = {name: listed[name] for name in options.variant or listed}
    commits = ["--all-commits"] if options.all_commits else []
    listing = subprocess.run([*DVC, "exp", "list", "--name-only", *commits], check=True, capture_output=True, text=True)
    targets = [f"{options.pipeline}/dvc.yaml"] if options.pipeline else []
    failed = []
    for name, parameters in list_runs(chosen, options.seeds, options.pipeline):
        if name not in listing.stdout.split():
            sets = [word for entry in parameters for word in ("-S", entry)]
            print(f"sweep: {name}", flush=True)
            if subprocess.run([*DVC, "exp", "run", "--temp", "--name", name, *targets, *sets], env=ENVIRONMENT).returncode:
                failed.append(name)
    if failed:
        sys.exit(f"sweep: {len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
