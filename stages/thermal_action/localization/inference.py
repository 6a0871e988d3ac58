"""Segments that a model finds in recordings, however long, and what they score."""

from collections import defaultdict

import numpy as np
import torch
from actionformer import make_dataset
from actionformer.datasets.data_utils import trivial_batch_collator
from actionformer.utils import valid_one_epoch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from thermal_action.localization.checkpoints import Localizer
from thermal_action.localization.samples import as_sample  # its module registers the dataset class of our own recordings
from thermal_action.localization.scores import Scorer
from thermal_action.localization.segments import Segment, to_results


class AnyLength:
    """A model as `valid_one_epoch` calls it, for recordings longer than the model's buffer of points, in chunks that overlap.

    Each chunk finds up to test_cfg.max_seg_num segments; those count whose middle lies in the chunk's own part, so that there is
    an eighth of a chunk around it for the model to see.
    """

    def __init__(self, model: nn.Module):
        self.model, self.found = model, 0
        self.limit = int(model.point_generator.max_seq_len) // model.max_div_factor * model.max_div_factor  # steps

    def eval(self) -> None:
        self.model.eval()

    def __call__(self, videos: list[dict]) -> list[dict]:
        answers = [self.localise(video) for video in videos]
        self.found += sum(len(answer["segments"]) for answer in answers)
        return answers

    def localise(self, video: dict) -> dict:
        """{"video_id", "segments": [N, 2] s, "scores": [N], "labels": [N]}."""
        steps, margin = video["feats"].shape[1], self.limit // 8
        if steps <= self.limit:
            return self.model([video])[0]
        seconds = video["feat_stride"] / video["fps"]  # a step
        starts = range(0, steps - 2 * margin, self.limit - 2 * margin)
        parts = defaultdict(list)
        for start in starts:
            chunk = {"feats": video["feats"][:, start:start + self.limit], "duration": video["duration"] - start * seconds}
            answer = self.model([video | chunk])[0]
            segments = answer["segments"] + start * seconds
            middle = segments.mean(dim=1) / seconds - 0.5 * video["feat_num_frames"] / video["feat_stride"]  # in steps
            own = (middle >= start + margin if start else middle >= -torch.inf) & (
                middle < start + self.limit - margin if start != starts[-1] else middle < torch.inf)
            for name, values in (("segments", segments), ("scores", answer["scores"]), ("labels", answer["labels"])):
                parts[name].append(values[own])
        return {"video_id": video["video_id"]} | {name: torch.cat(values) for name, values in parts.items()}


@torch.no_grad()
def find(localizer: Localizer, features: np.ndarray, duration_s: float, start_s: float = 0.0) -> list[Segment]:
    """Segments in s, the most certain first, in features [T, C] of `duration_s` seconds, which begin `start_s` after the first
    frame of their recording.
    """
    sample = as_sample("", features, fps=localizer.features.fps, duration=duration_s, **localizer.config["dataset"])
    answer = AnyLength(localizer.model).localise(sample)
    found = (Segment(start + start_s, end + start_s, label, score) for (start, end), label, score in
             zip(*(answer[part].tolist() for part in ("segments", "labels", "scores")), strict=True))
    return sorted(found, key=lambda segment: -segment.score)


def open_validation(config: dict) -> tuple[DataLoader, np.ndarray]:
    """The validation recordings, and the thresholds of overlap (tIoU) that their benchmark scores at."""
    data = make_dataset(config["dataset_name"], False, config["val_split"], **config["dataset"])
    # a generator of its own: to score must not shift the random numbers of training
    batches = DataLoader(data, 1, collate_fn=trivial_batch_collator, num_workers=config["loader"]["num_workers"],
                         generator=torch.Generator())
    return batches, data.get_attributes()["tiou_thresholds"]


def score(model: nn.Module, config: dict, names: dict[int, str]) -> Scorer:
    """Finds segments in the validation recordings with the package's `valid_one_epoch`, and scores them."""
    batches, thresholds = open_validation(config)
    scorer = Scorer(config["dataset"]["json_file"], config["val_split"][0], thresholds, names)
    whole = AnyLength(model)
    bar = tqdm(batches, desc="validation", unit="recording", leave=False, disable=None)
    try:
        valid_one_epoch(bar, whole, -1, ext_score_file=config["test_cfg"]["ext_score_file"], evaluator=scorer,
                        print_freq=len(batches) + 1)
    except (RuntimeError, ValueError):  # it joins the segments of all recordings, and cannot join none
        if whole.found:
            raise
        scorer.evaluate(to_results({}))
    return scorer
