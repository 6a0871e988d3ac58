"""Features in which segments are planted: a vector for each class, on noise, in the layouts that ActionFormer is trained on."""

from pathlib import Path

import numpy as np

from thermal_action.files import write_json

# folder of features, annotation file, what stands before a recording's name
LAYOUTS = {"thermal": ("features", "segments.json", ""), "thumos": ("i3d_features", "annotations/thumos14.json", ""),
           "ego4d": ("omnivore_features", "annotations/ego4d.json", ""),
           "anet": ("tsp_features", "annotations/anet1.3_tsp_filtered.json", "v_")}


def plant(folder: Path, *, layout: str, recordings: dict[str, int], classes: int, steps: int = 128, channels: int = 32,
          empty: int = 0, fps: float = 6.0, stride: int = 4, frames: int = 4, seed: int = 0) -> Path:
    """Writes `recordings` of each subset, the first `empty` of which show nothing, with three to six segments each.

    layout: a key of LAYOUTS. A segment lasts 3 to 12 steps; the same class vectors in all recordings; [T, C] float32.
    """
    numbers = np.random.default_rng(seed)
    vectors = numbers.standard_normal((classes, channels)) * 2
    features, annotations, prefix = LAYOUTS[layout]
    features = folder / features
    features.mkdir(parents=True)
    database, label = {}, 0
    for subset, count in recordings.items():
        for number in range(count):
            name, planted = f"{subset}_{number:03}", []
            rows = numbers.standard_normal((steps, channels))
            first = int(numbers.integers(4))
            while number >= empty and (last := first + int(numbers.integers(3, 13))) < steps:
                rows[first:last] += vectors[label]
                # a step's time is the middle of the frames that it sees
                ends = [(step * stride + 0.5 * (frames - stride)) / fps for step in (first, last)]
                planted.append({"segment": [max(end, 0.0) for end in ends], "label": f"action {label}", "label_id": label})
                label, first = (label + 1) % classes, last + int(numbers.integers(6, 20))
            np.save(features / f"{prefix}{name}.npy", rows.astype(np.float32))
            database[name] = {"subset": subset, "fps": fps, "duration": (steps * stride + frames) / fps, "annotations": planted}
    document = {"database": database}
    if layout == "thermal":
        document["taxonomy"] = [{"nodeId": label, "nodeName": f"action {label}"} for label in range(classes)]
        write_json(features / "manifest.json", {"fps": fps, "stride": stride, "num_frames": frames})
    write_json(folder / annotations, document)
    return folder
