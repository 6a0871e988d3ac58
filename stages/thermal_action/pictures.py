"""Pictures of what is learned from and how: a keyframe with its boxes and labels and what happens around it, what augmentation
does, curves of a training.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from thermal_action.annotations import Sample
from thermal_action.boxes import WHOLE_PICTURE, pixels
from thermal_action.files import replacing

# colours that stay apart from each other and from the inferno map
PERSON_COLOURS = ("#35e0ff", "#7dff5a", "#ff7de9", "#ffffff")
STRIP_FRAMES = 8
EXAMPLES_A_ROW = 2
SIDE_COLOURS = {"train": "#9aa5b1", "inner": "#d9b26f", "val": "#1f5fa8"}


def draw_window(path: str | Path, sample: Sample, window: np.ndarray, times_s: np.ndarray, keyframe: int,
                classes: list[str]) -> None:
    """PNG of one sample. `window` (T, H, W) C, of a video (T, H, W, 3) from 0 to 255, `times_s` (T,) seconds from the keyframe,
    which stands at `keyframe`.
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    thermal = window.ndim == 3
    low, high = np.percentile(window, [1, 99.8]) if thermal else (0, 255)
    # an even strip of the window in which the keyframe stands too
    shown = np.unique(np.linspace(0, len(window) - 1, STRIP_FRAMES).round().astype(int))
    shown[np.argmin(np.abs(shown - keyframe))] = keyframe
    figure = plt.figure(figsize=(11, 7.9), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=[5.2, 1])
    axes = figure.add_subplot(rows[0])
    picture = axes.imshow(window[keyframe], cmap="inferno", vmin=low, vmax=high,
                          extent=(0, sample.width, sample.height, 0))
    if thermal:
        figure.colorbar(picture, ax=axes, label="temperature, °C", shrink=0.9)
    axes.set_title(f"{sample.image_id}   frame {sample.frame_idx}", loc="left", fontsize=11)
    draw_boxes(axes, sample, classes)
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    strip = rows[1].subgridspec(1, len(shown), wspace=0.04)
    for place, index in enumerate(shown):
        small = figure.add_subplot(strip[place])
        small.imshow(window[index], cmap="inferno", vmin=low, vmax=high)
        small.set_title("keyframe" if index == keyframe else f"{times_s[index]:+.1f} s", fontsize=9,
                        fontweight="bold" if index == keyframe else None)
        small.set_xticks([])
        small.set_yticks([])
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png", metadata={"Software": None})
    plt.close(figure)


def draw_boxes(axes, sample: Sample, classes: list[str]) -> None:
    from matplotlib.patches import Rectangle

    def outline(box: np.ndarray, **style) -> tuple[float, float, float]:
        x1, y1, x2, y2 = box * (sample.width, sample.height, sample.width, sample.height)
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))
        return x1, y1, y2

    for _, name, box in sample.context:
        x1, _, y2 = outline(box, edgecolor="#b0b0b0", linewidth=1, linestyle="--")
        axes.text(x1 + 0.2, min(y2 + 0.2, sample.height), name, color="#d0d0d0", fontsize=8, va="top", clip_on=True)
    for person, (box, label) in enumerate(zip(sample.boxes, sample.labels, strict=True)):
        if tuple(box) == WHOLE_PICTURE:
            axes.set_title(classes[label], loc="right", fontsize=11, fontweight="bold")
            continue
        colour = PERSON_COLOURS[person % len(PERSON_COLOURS)]
        x1, y1, y2 = outline(box, edgecolor=colour, linewidth=2)
        above = y1 > sample.height / 12
        name = f"{classes[label]} (person {sample.object_ids[person]})"
        axes.text(min(x1, sample.width * 0.62), y1 - 0.3 if above else y2 + 0.3, name, color="black", fontsize=9,
                  va="bottom" if above else "top", bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5})


def draw_augmentations(path: str | Path, examples: Sequence) -> None:
    """PNG of `training.augmentation_examples.examples(data, index, ...)`: before, after and the change of each, C or of 255.

    The keyframe with its boxes; where one frame does not show it, one row of pixels through the window, time downwards, the
    keyframe dotted.
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    frames, keyframe = examples[0].before.frames, examples[0].before.keyframe
    height, width = frames.shape[1:3]
    low, high = np.percentile(frames, [1, 99.8])
    rows, gap, header = -(-len(examples) // EXAMPLES_A_ROW), 0.05 * width, 0.3 * height
    figure = plt.figure(figsize=(8 * EXAMPLES_A_ROW, 8 / (3 * width + 4 * gap) * (height + header) * rows))
    axes = figure.add_axes((0, 0, 1, 1))  # in pixels of the sensor; one for all is fast
    for place, example in enumerate(examples):
        top = place // EXAMPLES_A_ROW * (height + header) + header
        left = place % EXAMPLES_A_ROW * (3 * width + 4 * gap) + gap
        shown = (slice(None), telling_row(example)) if example.over_time else keyframe
        before, after = example.before.frames[shown], example.after.frames[shown]
        change, unit = after - before, " °C"
        if frames.ndim == 4:
            change, unit = change.mean(axis=-1), " of 255"
            before, after = (np.clip(each / 255, 0, 1) for each in (before, after))
        largest = max(np.abs(change).max(), 0.1)
        note = ", a row of pixels, time downwards" if example.over_time else ""
        axes.text(left, top - 0.55 * header, example.title + note, fontsize=11, fontweight="bold")
        tiles = [("before", before, "inferno", low, high, example.before), ("after", after, "inferno", low, high, example.after),
                 (f"change, within ±{largest:.1f}{unit}", change, "RdBu_r", -largest, largest, example.after)]
        for name, tile, colours, lowest, highest, window in tiles:
            axes.text(left, top - 0.12 * header, name, fontsize=9)
            axes.imshow(tile, cmap=colours, vmin=lowest, vmax=highest, extent=(left, left + width, top + height, top))
            if example.over_time:
                axes.plot([left, left + width], 2 * [top + (keyframe + 0.5) / len(frames) * height], ":", color="grey")
            else:
                outline_boxes(axes, window.boxes, (left, top), (width, height))
            left += width + gap
    axes.set(xlim=(0, EXAMPLES_A_ROW * (3 * width + 4 * gap)), ylim=(rows * (height + header), 0), aspect="auto")
    axes.set_axis_off()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png", metadata={"Software": None})
    plt.close(figure)


def telling_row(example) -> int:
    """The row of pixels that changes most where persons are, if any are."""
    window = example.before
    change = np.abs(example.after.frames - window.frames).sum(axis=0)  # (H, W), of a video (H, W, 3)
    change = change if change.ndim == 2 else change.sum(axis=-1)
    inside = np.zeros(change.shape, dtype=bool)
    for box in window.boxes:
        inside[pixels(box, *change.shape)] = True
    return int((change * inside if inside.any() else change).sum(axis=1).argmax())


def outline_boxes(axes, boxes: np.ndarray, corner: tuple[float, float], size: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    for person, box in enumerate(boxes):
        x1, y1, x2, y2 = np.tile(corner, 2) + box * np.tile(size, 2)
        colour = PERSON_COLOURS[person % len(PERSON_COLOURS)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.5))


def draw_curves(path: str | Path, history: Sequence[Mapping[str, float]]) -> None:
    """PNG of loss and accuracy by epoch: `history` has the scalars of each, by names as train/loss and val/top1."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, score, title in zip(panels, ("loss", "top1"), ("Loss", "Top-1"), strict=True):
        for side, colour in SIDE_COLOURS.items():
            points = [(epoch, scalars[f"{side}/{score}"]) for epoch, scalars in enumerate(history, start=1)
                      if f"{side}/{score}" in scalars]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=side)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch", ylim=(0, 1.02 if score == "top1" else None))
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e7ea")
        axes.legend(fontsize=8, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
