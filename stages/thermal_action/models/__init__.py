"""Models that classify persons in a window of thermal frames: `model(frames, boxes) -> logits`."""

from torch import nn

from thermal_action.models.slowfast import SlowFast

MODELS: dict[str, type[nn.Module]] = {"slowfast": SlowFast}


def build_model(name: str, *, num_classes: int, **config) -> nn.Module:
    """The model `name` with random weights; `config` are its own keyword arguments (its class documents them).

    Every model takes frames [B, 3, T, H, W] float32 in [0, 1] and a list of B box tensors [N_i, 4] (x1, y1, x2, y2 in
    [0, 1]), and gives logits [sum N_i, num_classes].
    """
    return MODELS[name](num_classes=num_classes, **config)
