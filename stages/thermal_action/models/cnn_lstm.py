"""A network for pictures with a memory over time (Donahue et al., Long-term recurrent convolutional networks, CVPR 2015)."""

from torch import Tensor, nn

from thermal_action.models.sampling import pick_frames, stage_strides
from thermal_action.windows import CENTRED


class CNNLSTM(nn.Module):
    """ResNet maps of single frames (torchvision, whose ImageNet weights fit), and an LSTM over time at each cell of the map.

    The LSTM reads both ways, since the label belongs to the window's middle, and has one set of weights for all cells.
    depth: of the ResNet, 18 or 50. hidden: channels of the LSTM each way. frames: how many of the window.
    """

    def __init__(self, *, in_channels: int = 1, spatial_stride: int = 8, depth: int = 18, hidden: int = 128, frames: int = 16,
                 keyframe: float = CENTRED):
        from torchvision.models import resnet18, resnet50
        super().__init__()
        self.keyframe = keyframe
        self.frames = frames
        self.cnn = {18: resnet18, 50: resnet50}[depth]()
        self.lstm = nn.LSTM(self.cnn.fc.in_features, hidden, batch_first=True, bidirectional=True)
        self.out_channels = 2 * hidden
        del self.cnn.fc
        if in_channels != 3:
            self.cnn.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
            nn.init.kaiming_normal_(self.cnn.conv1.weight, mode="fan_out", nonlinearity="relu")
        for layer, stride in zip((self.cnn.layer2, self.cnn.layer3, self.cnn.layer4), stage_strides(spatial_stride), strict=True):
            for module in layer.modules():
                if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                    module.stride = (stride, stride)

    @property
    def stages(self) -> list[nn.Module]:
        """Stem, the four stages of the ResNet, LSTM; parts() alone reads them, the parameters keep torchvision's names."""
        cnn = self.cnn
        stem = nn.Sequential(cnn.conv1, cnn.bn1, cnn.relu, cnn.maxpool)
        return [stem, cnn.layer1, cnn.layer2, cnn.layer3, cnn.layer4, self.lstm]

    def forward(self, frames: Tensor) -> list[Tensor]:
        """frames [B, in_channels, T, H, W] -> [one map [B, out_channels, frames, h, w]]."""
        picked = pick_frames(frames, self.frames, self.keyframe).transpose(1, 2)  # (B, frames, in_channels, H, W)
        *cnn, lstm = self.stages
        maps = picked.flatten(0, 1)
        for stage in cnn:
            maps = stage(maps)
        cells = maps.unflatten(0, picked.shape[:2]).permute(0, 3, 4, 1, 2)  # (B, h, w, frames, C)
        read, _ = lstm(cells.flatten(0, 2))
        return [read.unflatten(0, cells.shape[:3]).permute(0, 4, 3, 1, 2)]
