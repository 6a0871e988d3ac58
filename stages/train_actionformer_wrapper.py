"""Finds when actions begin and end: trains ActionFormer on features over time, and scores it.

in   <data_path>/annotations/<name>.json and <data_path>/<features>/<recording>.npy, in the layout of the published data sets
     (thermal_action/localization/data.py); the templates are the published settings, and `thermal` is for our own recordings
out  <output_folder>/<output_name>/
         config.json        every setting, and what it ran on
         losses.json        of each epoch: losses, learning rate, and of every few the mAP
         last.pt, best.pt   the last epoch, from which --resume goes on; averaged weights of the epoch of the highest mAP
         metrics.json       of the last epoch, on the validation split: mAP per tIoU and its mean, AR@N, recall at k times the
                            number of true segments, for the averaged weights (`ema`) and those themselves (`raw`)
         predictions.json   {recording: [{label, score, segment [s, s]}]} of the averaged weights
     FINAL_mAP, in percent, of the averaged weights, is the last line
run  python train_actionformer_wrapper.py --config_template thumos_i3d --data_path ./data/thumos --learning_rate 0.0001
     --epochs 30 --batch_size 2 --output_name my_experiment    after `make localize`
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from thermal_action.files import write_json
from thermal_action.localization import require_package
from thermal_action.script import run

if TYPE_CHECKING:
    import torch

    from thermal_action.localization.data import Data
    from thermal_action.localization.engine import Learner


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_template", required=True, help="thermal, or a published one: thumos_i3d, anet_tsp, ...")
    parser.add_argument("--data_path", type=Path, required=True, help="folder of annotations and features")
    parser.add_argument("--learning_rate", type=positive, help="highest one (default: the template's)")
    parser.add_argument("--epochs", type=counted, help="epochs after the five of warm-up (default: the template's)")
    parser.add_argument("--batch_size", type=counted, help="recordings a step (default: the template's)")
    parser.add_argument("--max_seq_len", type=counted, help="most steps learned from at once, rounded up to what the network can"
                        " divide (default: the template's)")
    parser.add_argument("--output_name", required=True, help="name of the run")
    parser.add_argument("--output_folder", type=Path, default=Path("ckpt"), help="folder of all runs (default: ckpt)")
    going = parser.add_mutually_exclusive_group()
    going.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from a last.pt")
    going.add_argument("--eval_only", type=Path, metavar="CHECKPOINT", help="score a checkpoint, do not train")
    parser.add_argument("--eval_every", type=counted, default=10, help="epochs from one look at the validation split to the next,"
                        " for losses.json and best.pt only (default: 10)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--num_workers", type=natural, help="processes that read features (default: the template's)")
    parser.add_argument("--seed", type=natural, help="of all random numbers (default: the published one)")
    return parser.parse_args()


def natural(text: str) -> int:
    if not 0 <= int(text) < 1 << 32:
        raise ValueError
    return int(text)


def counted(text: str) -> int:
    if int(text) == 0:
        raise ValueError
    return natural(text)


def positive(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise ValueError
    return float(text)


def settings_of(options: argparse.Namespace, found: "Data") -> dict:
    """What the command says and what follows from the data, over the template."""
    said = {
        "dataset": found.settings | {"max_seq_len": options.max_seq_len},
        "opt": {"learning_rate": options.learning_rate, "epochs": options.epochs},
        "loader": {"batch_size": options.batch_size, "num_workers": options.num_workers},
        "test_cfg": {"ext_score_file": found.external_scores} | ({} if found.external_scores else {"multiclass_nms": True}),
    }
    given = {section: {key: value for key, value in keys.items() if value is not None} for section, keys in said.items()}
    return given | ({} if options.seed is None else {"init_rand_seed": options.seed})


def learn(options: argparse.Namespace, config: dict, names: dict[int, str], device: "torch.device", growing: bool) -> "Learner":
    """The network after the last epoch; writes last.pt and losses.json after each, and best.pt."""
    from thermal_action.localization import checkpoints, engine, inference

    folder, epochs = options.output_folder / options.output_name, config["opt"]["epochs"] + config["opt"]["warmup_epochs"]
    learner, batches = engine.start(config, device, growing=growing)
    write_json(folder / "config.json", {"config": config, "template": options.config_template,
                                        **engine.describe_environment(device)})
    if options.resume:
        learner.resume(options.resume, config)
        print(f"goes on after epoch {len(learner.history)} of {epochs} ({options.resume})")
    while (epoch := len(learner.history) + 1) <= epochs:
        outcome = engine.train_epoch(learner, batches, config["train_cfg"]["clip_grad_l2norm"])
        learner.history.append(outcome)
        if epoch % options.eval_every == 0 and epoch < epochs:  # the last one is scored at the end
            mean = inference.score(learner.average.module, config, names).scores["mAP"]
            learner.keep_best(folder / "best.pt", mean, config)
            outcome["mAP"] = mean
        checkpoints.save(folder / "last.pt", learner.state(config))
        write_json(folder / "losses.json", [{"epoch": number, **each} for number, each in enumerate(learner.history, start=1)])
        print(f"epoch {epoch}/{epochs}  " + "  ".join(f"{name} {value:.4g}" for name, value in outcome.items()), flush=True)
    return learner


def main() -> None:
    options = read_arguments()
    require_package()
    from thermal_action.localization import checkpoints, data, engine, inference, templates  # they import torch and the package

    template = templates.choose_template(options.config_template)
    found = data.open_data(*data.find_places(options.data_path, template), template, training=options.eval_only is None)
    config = templates.build_config(templates.over(template.changes, settings_of(options, found)))
    device = engine.choose_device(options.device)
    folder = options.output_folder / options.output_name
    if options.eval_only:
        models = checkpoints.read_models(options.eval_only, config, device)
    else:
        learner = learn(options, config, found.names, device, template.own)
        models = {"ema": learner.average.module, "raw": learner.model}
    scorers = {name: inference.score(model, config, found.names) for name, model in models.items()}
    scores = {name: scorer.scores for name, scorer in scorers.items()}
    if not options.eval_only:
        learner.keep_best(folder / "best.pt", scores["ema"]["mAP"], config)
    labelled = f"of {Path(found.external_scores).name}" if found.external_scores else "of the model"
    write_json(folder / "metrics.json", {"template": options.config_template, "labels": labelled, **scores})
    write_json(folder / "predictions.json", scorers["ema"].list_predictions())
    print(f"{folder}: {len(scorers['ema'].truth.ground_truth)} segments of {len(scores['ema']['AP'])} labels; " + ", ".join(
        f"{name} {100 * value:.2f}" for name, value in scores["ema"].items() if name.startswith(("mAP@", "AR@"))))
    print(f"FINAL_mAP: {100 * scores['ema']['mAP']:.2f}")


if __name__ == "__main__":
    run(main)
