"""Our windows as a data set of MMAction2: read, cut and augmented by ThermalActionDataset, packed by PackActionInputs."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from mmaction.datasets import BaseActionDataset
from mmaction.registry import DATASETS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from thermal_action import InputError
from thermal_action.annotations import Sample, clip_label, read_info
from thermal_action.ava import Key, index_keys, key_of, read_detections
from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.dataset import Item, ThermalActionDataset
from thermal_action.transforms import ThermalActionTransform
from thermal_action.windows import Windowing


@DATASETS.register_module()
class ThermalWindows(BaseActionDataset):
    """One sample per annotated keyframe, for Recognizer3D (`label`) and for AVARoIHead (`gt_bboxes`, `gt_labels`, `proposals`).

    data_root, ann_file, data_prefix: as everywhere in MMAction2; `data_prefix["frames"]` is the folder of `<recording>.h5`.
    pipeline: begins with LoadThermalWindow.
    window: fields of `windows.Windowing`; None takes the windows that the annotations were made for.
    look: `temperature_range` and `background` of ThermalActionTransform.
    num_classes: how many actions the network knows; compared with the annotations.
    augment: strengths of augmentations by name, where not named as ThermalActionTransform has them; None augments nothing. What
        is drawn follows from `seed`, the epoch (ThermalEpochHook) and the sample, so that a sample that ClassBalancedDataset
        repeats is the same both times in one epoch.
    background_class: as of BBoxHeadAVA: labels are one-hot with a column before the actions.
    proposals: an AVA csv of detections (export_ava.py, or a detector's); None proposes the annotated persons.
    num_proposals: the most certain ones that are kept of a keyframe.

    Left out and counted, since MMAction2's heads stop at them: keyframes without persons, in a test with a file of proposals
    those without a proposal. A person in one of the latter is missed, and ThermalPersonMetric counts it so.
    InputError for annotations that do not fit the frames, and for what contradicts itself in the options.
    """

    def __init__(self, ann_file: str, pipeline: list, *, window: dict | None = None, look: dict | None = None,
                 augment: dict[str, float] | None = None, background_class: bool = False, proposals: str | None = None,
                 num_proposals: int = 100, seed: int = 0, cache_mb: int = 512, **options: Any):
        if proposals is not None and augment is not None:
            raise InputError(f"augment moves persons, and proposals of a file ({proposals}) stay where they are: leave one out")
        self.window, self.look, self.augment = window, look or {}, augment
        self.background_class, self.proposals, self.num_proposals = background_class, proposals, num_proposals
        self.seed, self.cache_mb = seed, cache_mb
        super().__init__(ann_file, pipeline, **options)

    def load_data_list(self) -> list[dict]:
        """The samples of the annotation file, in its order, without frames."""
        look = ThermalActionTransform(self.augment is not None, **self.look, **(self.augment or {}))
        windowing = read_info(self.ann_file).window if self.window is None else Windowing(**self.window)
        self.windows = ThermalActionDataset(self.data_prefix["frames"], self.ann_file, look, windowing, seed=self.seed,
                                            cache_mb=self.cache_mb)
        index_keys(self.windows.samples, self.ann_file)
        self._metainfo["classes"] = tuple(self.windows.classes)
        if self.num_classes not in (None, len(self.windows.classes)):
            raise InputError(f"{self.ann_file} has {len(self.windows.classes)} classes, not {self.num_classes}: set num_classes"
                             " (THERMAL_CLASSES) of the configuration")
        proposed = None if self.proposals is None else self._read_proposals()
        by_proposals = self.test_mode and proposed is not None
        data_list = [self._describe(index, sample, proposed) for index, sample in enumerate(self.windows.samples)
                     if (key_of(sample) in proposed if by_proposals else len(sample.boxes))]
        print_log(f"{self.ann_file}: {len(data_list)} windows, {len(self.windows) - len(data_list)} left out that have no"
                  f" {'proposal' if by_proposals else 'person'}", logger="current")
        return data_list

    def _describe(self, index: int, sample: Sample, proposed: dict[Key, tuple[np.ndarray, np.ndarray]] | None) -> dict:
        video, timestamp = key = key_of(sample)
        entry = {"index": index, "video_id": video, "timestamp": timestamp, "img_key": f"{video},{timestamp:04d}", "ann": {
            "gt_bboxes": sample.boxes, "gt_labels": self.one_hot(sample.labels), "entity_ids": sample.object_ids}}
        if len(sample.labels):
            entry["label"] = clip_label(sample.labels)
        if proposed is not None:
            entry["proposals"], entry["proposal_scores"] = proposed.get(key, (sample.boxes, np.ones(len(sample.boxes))))
        return entry

    def _read_proposals(self) -> dict[Key, tuple[np.ndarray, np.ndarray]]:
        """(boxes [p, 4], scores [p]) by keyframe, the most certain first; a box is proposed once, with its largest score."""
        rows = read_detections(self.proposals, len(self.windows.classes))
        found: dict[Key, dict[tuple, float]] = {}
        for row in np.argsort(-rows.scores, kind="stable").tolist():
            found.setdefault(rows.images[row], {}).setdefault(tuple(rows.boxes[row].tolist()), float(rows.scores[row]))
        kept = {key: list(boxes.items())[: self.num_proposals] for key, boxes in found.items()}
        return {key: (np.array([box for box, _ in boxes], np.float32), np.array([score for _, score in boxes]))
                for key, boxes in kept.items()}

    def one_hot(self, labels: np.ndarray) -> np.ndarray:
        """float32 [n, classes], with background_class [n, 1 + classes]."""
        return np.eye(len(self.windows.classes) + self.background_class, dtype=np.float32)[np.asarray(labels)
                                                                                           + self.background_class]

    def get_data_info(self, idx: int) -> dict:
        """What is known of a sample without its frames; LoadThermalWindow calls `read` for them. Boxes in [0, 1]."""
        info = super().get_data_info(idx)
        info |= info.pop("ann")
        info["read"], info["one_hot"] = partial(self.windows.__getitem__, info["index"]), self.one_hot
        return info

    def get_cat_ids(self, idx: int) -> list[int]:
        """The actions in a window, which ClassBalancedDataset balances."""
        return np.unique(self.windows.labels(super().get_data_info(idx)["index"])).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the augmentation of the coming epoch, also for workers already running."""
        self.windows.set_epoch(epoch)


@TRANSFORMS.register_module()
class LoadThermalWindow(BaseTransform):
    """Reads the window, and sets what MMAction2's own loading transforms set.

    Required: read, one_hot. Set, all from one reading, and so augmented alike: imgs (T pictures float32 [H, W, channels] in
    [0, 1]), img_shape, original_shape, num_clips, clip_len, crop_quadruple; gt_bboxes and proposals float32 in pixels,
    gt_labels, entity_ids, proposal_scores and label.

    channels: 3 for weights of colour pictures, which see one picture three times, or 1 (then without MMAction2's Resize: OpenCV
        drops the axis of a single channel).
    """

    def __init__(self, channels: Literal[1, 3] = 3):
        self.channels = channels

    def transform(self, results: dict) -> dict:
        """See mmcv.transforms.BaseTransform."""
        read: Callable[[], Item] = results.pop("read")
        one_hot = results.pop("one_hot")
        frames, boxes, labels, extras = read()
        _, length, height, width = frames.shape
        size = np.array([width, height, width, height], np.float32)
        # one array, laid out as OpenCV wants pictures
        results["imgs"] = list(np.ascontiguousarray(frames[: self.channels].permute(1, 2, 3, 0).numpy()))
        results |= {"img_shape": (height, width), "original_shape": (height, width), "num_clips": 1, "clip_len": length,
                    "crop_quadruple": np.array(WHOLE_PICTURE, np.float32)}
        if len(labels):  # copy-paste may have added somebody
            results["label"] = clip_label(labels.tolist())
        results |= {"gt_bboxes": boxes.numpy() * size, "gt_labels": one_hot(labels.numpy()), "entity_ids": extras["object_ids"]}
        if "proposals" in results:
            results["proposals"] = results["proposals"] * size
        else:
            results["proposals"], results["proposal_scores"] = results["gt_bboxes"].copy(), np.ones(len(labels))
        return results
