"""What a trained model says of a side of the split: of its persons, of those that are found there, or of whole clips."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.annotations import read_info
from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.dataset import ThermalActionDataset, collate_fn
from thermal_action.scoring import components
from thermal_action.scoring.finding import Found
from thermal_action.training.checkpoints import load_model
from thermal_action.training.engine import Seen, answer_in_boxes
from thermal_action.transforms import ThermalActionTransform

# windows per forward pass: changes the memory needed, not a score
BATCH = 8
COMPONENTS = "warm_components"
# detections scored less than this change no score worth reading
LEAST_SCORE = 0.02


class Respondent:
    """The model in `path`, asked on `device` of recordings in `frames`; `workers` load windows, each keeps `cache_mb` of frames.

    clips: whether it labels whole windows, and so finds nobody.
    """

    def __init__(self, path: Path, frames: Path, device: torch.device, *, workers: int, cache_mb: int):
        self.path, self.frames, self.device, self.workers, self.cache_mb = path, frames, device, workers, cache_mb
        self.model, self.info = load_model(path, device)
        self.clips = self.model.detector is None

    def open_side(self, annotations: Path) -> ThermalActionDataset:
        """A side of the split, fed as the model was trained. InputError when the model belongs to other annotations."""
        windowing = read_info(annotations).window
        data = ThermalActionDataset(self.frames, annotations, ThermalActionTransform(False, **self.info["transform"]), windowing,
                                    cache_mb=self.cache_mb, label_per="clip" if self.clips else "person")
        facts = {"classes": data.classes, "frame_size": list(data.frame_size), "window": asdict(windowing)}
        for name, fact in facts.items():
            if fact != self.info[name]:
                raise InputError(f"{self.path} was trained with {name} {self.info[name]}, but {annotations} has {fact}: run"
                                 " `dvc repro train`")
        return data

    def answer_persons(self, train: ThermalActionDataset, val: ThermalActionDataset) -> tuple[np.ndarray, dict[str, Found]]:
        """Probabilities float64 [N, C] of all persons of `val`, in order of the samples, and who is found there: by the model,
        and by warmth with the settings that suit `train`; with the model's answers there. Persons of a clip share the clip's.
        """
        if self.clips:
            return np.repeat(self.answer_clips(val), [len(sample.boxes) for sample in val.samples], axis=0), {}
        with tqdm(total=min(components.CHOOSING, len(train)) + len(val), unit="window", desc=COMPONENTS.replace("_", " ")) as bar:
            warm = components.find_by_warmth(train, val, bar.update)
        seen = self._ask(val, [torch.from_numpy(boxes).float() for boxes, _ in warm])
        answers = {name: self._probabilities([getattr(window, name) for window in seen])
                   for name in ("annotated", "found", "others")}
        found = [(window.boxes.numpy(), window.scores.numpy()) for window in seen]
        return answers["annotated"], {"model": Found.gather(found, answers["found"]),
                                      COMPONENTS: Found.gather(warm, answers["others"])}

    def answer_clips(self, data: ThermalActionDataset) -> np.ndarray:
        """Probabilities float64 [samples, C] of whole windows, whoever is annotated in them."""
        seen = self._ask(data, [torch.tensor([WHOLE_PICTURE])] * len(data))
        return self._probabilities([window.others for window in seen])

    def _ask(self, data: ThermalActionDataset, others: Sequence[Tensor]) -> list[Seen]:
        batches = DataLoader(data, BATCH, collate_fn=collate_fn, num_workers=self.workers)
        return list(tqdm(answer_in_boxes(self.model, batches, others, device=self.device, least=LEAST_SCORE), total=len(data),
                         desc="model"))

    def _probabilities(self, logits: list[Tensor]) -> np.ndarray:
        joined = torch.cat(logits)
        if not torch.isfinite(joined).all():
            raise InputError(f"{self.path} answers with numbers that are not finite: train it again with another train.lr")
        return torch.softmax(joined.double(), dim=1).numpy()
