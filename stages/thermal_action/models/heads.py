"""What turns feature maps and person boxes into one row of logits a person."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermal_action.boxes import centres, sizes
from thermal_action.windows import CENTRED, keyframe_position


def expand_boxes(boxes: Tensor, factor: float) -> Tensor:
    """Scale boxes [N, 4] (x1, y1, x2, y2 in [0, 1]) about their centres by `factor`, cut at the picture's edge."""
    centre, half = centres(boxes), sizes(boxes) / 2 * factor
    return torch.cat([centre - half, centre + half], dim=1).clamp(0.0, 1.0)


def pool_time(features: Tensor, keyframe: float = CENTRED) -> Tensor:
    """Mean, maximum and the keyframe's own moment of [B, C, T, h, w] -> [B, 3C, h, w].

    A window holds ten seconds and often two actions; the label belongs to its keyframe (see `windows.Windowing`), so
    that moment is kept beside what the window holds as a whole.
    """
    place = keyframe_position(features.shape[2], keyframe)
    moment = features[:, :, max(place - 1, 0) : place + 2].mean(dim=2)
    return torch.cat([features.mean(dim=2), features.amax(dim=2), moment], dim=1)


def coordinate_maps(like: Tensor) -> Tensor:
    """x, y in [-1, 1] and the distance from the middle, as channels [B, 3, h, w] beside a feature map."""
    y = torch.linspace(-1, 1, like.shape[2], device=like.device, dtype=like.dtype)
    x = torch.linspace(-1, 1, like.shape[3], device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, (x**2 + y**2).sqrt()]).expand(like.shape[0], -1, -1, -1)


def describe_boxes(boxes: Tensor) -> Tensor:
    """Boxes [N, 4] in [0, 1] -> [N, 4]: centre from -1 to 1, logarithm of width and height (1 is a tenth of the picture)."""
    return torch.cat([2 * centres(boxes) - 1, (10 * sizes(boxes).clamp(min=1e-3)).log()], dim=1)


class CosineClassifier(nn.Module):
    """Scaled cosines [N, classes] of descriptions [N, D] and a direction per class (Gidaris and Komodakis, CVPR 2018).

    They lie in [-1, 1], too near to each other for a softmax, so the logits are `scale` times the cosines: for every loss and
    for every prediction. A loss whose margins are cosines (LDAM) multiplies its margins by `scale`, not the logits again.
    """

    def __init__(self, features: int, num_classes: int, scale: float = 16.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, features))
        self.scale = scale
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * functional.linear(functional.normalize(features), functional.normalize(self.weight))


CLASSIFIERS = {"linear": nn.Linear, "cosine": CosineClassifier}


class Head(nn.Module):
    """Describes each person (or clip) by numbers, and classifies those."""

    def __init__(self, features: int, num_classes: int, classifier: str, dropout: float, keyframe: float):
        super().__init__()
        self.keyframe = keyframe
        self.dropout = nn.Dropout(dropout)
        self.classify = CLASSIFIERS[classifier](features, num_classes)

    def pool_time(self, maps: list[Tensor]) -> Tensor:
        """Those of all pathways: [B, sum 3 C_i, h, w]."""
        return torch.cat([pool_time(features, self.keyframe) for features in maps], dim=1)

    def describe(self, maps: list[Tensor], boxes: Tensor, owner: Tensor) -> Tensor:
        """maps: one [B, C_i, T_i, h, w] per pathway; boxes [N, 4] in [0, 1] and the window of each, [N] -> [N, D], float32."""
        raise NotImplementedError


class ClipHead(Head):
    """One row a window: mean and maximum over time and picture of the reduced maps."""

    def __init__(self, in_channels: int, num_classes: int, *, classifier: str, hidden: int, dropout: float,
                 keyframe: float = CENTRED, more: int = 0):
        super().__init__(2 * hidden + more, num_classes, classifier, dropout, keyframe)
        self.reduce = nn.Sequential(nn.Conv2d(3 * in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())

    def pool(self, maps: list[Tensor]) -> Tensor:
        reduced = self.reduce(self.pool_time(maps)).float()
        return self.dropout(torch.cat([reduced.mean(dim=(2, 3)), reduced.amax(dim=(2, 3))], dim=1))

    def describe(self, maps: list[Tensor], boxes: Tensor, owner: Tensor) -> Tensor:
        """As Head.describe. Every window has one box, the whole picture, or none, and then no row."""
        return self.pool(maps)[owner]


class CropHead(ClipHead):
    """One row a person, whose piece of the frames (crops.py) was all that the network saw; the box tells where that is."""

    def __init__(self, in_channels: int, num_classes: int, **options):
        super().__init__(in_channels, num_classes, more=4 + 3, **options)

    def describe(self, maps: list[Tensor], boxes: Tensor, owner: Tensor, where: Tensor | None = None) -> Tensor:
        """As Head.describe, but the maps are those of N pieces; where: [N, 3] of PersonCrops.describe."""
        return torch.cat([self.pool(maps), describe_boxes(boxes).float(), where.float()], dim=1)


class RoIHead(Head):
    """Classifies each person from its box on the time-pooled maps and from the scene around it.

    The box is read twice by RoIAlign (He et al., Mask R-CNN, 2017): as given, and expanded by `context`, so that what
    a person lies on or leans against is seen; with `scene` the mean of the whole map tells the room. RoIAlign forgets where
    a box is and how large, and a ceiling camera needs both: who stands is a disc below it and a radial rod at the rim, who
    lies is a rod everywhere. So the map carries its coordinates, and the classifier the box.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        classifier: str,
        hidden: int,
        roi_size: int,
        context: float,
        scene: bool,
        dropout: float,
        keyframe: float = CENTRED,
    ):
        super().__init__(hidden * (4 + scene) + 4, num_classes, classifier, dropout, keyframe)
        self.roi_size = roi_size
        self.context = context
        self.scene = scene
        self.reduce = nn.Sequential(nn.Conv2d(3 * in_channels + 3, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())

    def describe(self, maps: list[Tensor], boxes: Tensor, owner: Tensor) -> Tensor:
        """As Head.describe."""
        from torchvision.ops import roi_align
        feature_map = self.pool_time(maps)
        feature_map = self.reduce(torch.cat([feature_map, coordinate_maps(feature_map)], dim=1))
        feature_map = feature_map.float()  # RoIAlign on the CPU has no half precision
        size = boxes.new_tensor([feature_map.shape[3], feature_map.shape[2]]).repeat(2)
        described = []
        for region in (boxes, expand_boxes(boxes, self.context)):
            rois = torch.cat([owner[:, None].to(region.dtype), region * size], dim=1)
            person = roi_align(feature_map, rois, self.roi_size, sampling_ratio=2, aligned=True)  # (N, hidden, k, k)
            described += [person.mean(dim=(2, 3)), person.amax(dim=(2, 3))]
        if self.scene:
            described.append(feature_map.mean(dim=(2, 3))[owner])
        return torch.cat([self.dropout(torch.cat(described, dim=1)), describe_boxes(boxes)], dim=1)
