"""Residual networks (He et al., 2015) with basic blocks, in the two sizes of the contrastive paper's Table 1.

Layers are named as in torchvision, so its checkpoints of the ImageNet-style net match by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fedmend.models.normalization import Normalize


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut, (N, C, H, W) to (N, width, H/s, W/s)."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """One residual step."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(x + shortcut)
        return out


class ResNet(nn.Module):
    """A residual network of four stages.

    Args:
        blocks: number of basic blocks in each stage.
        num_classes: number of logits.
        in_channels: channels of the images.
        width: channels of the first stage; each later stage has twice as many. 64 in the papers, less for
            tests.
        imagenet_stem: start with a 7x7 convolution of stride 2 and a max-pool of stride 2, rather than a 3x3
            convolution of stride 1.
    """

    def __init__(
        self, blocks: Sequence[int], num_classes: int, in_channels: int, width: int, *, imagenet_stem: bool
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        kernel, stride = (7, 2) if imagenet_stem else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet_stem else nn.Identity()
        first, second, third, fourth = blocks
        self.layer1 = _stage(first, width, width, stride=1)
        self.layer2 = _stage(second, width, 2 * width, stride=2)
        self.layer3 = _stage(third, 2 * width, 4 * width, stride=2)
        self.layer4 = _stage(fourth, 4 * width, 8 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], float (N, C, H, W) of any height and width, to logits (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalize(images)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def resnet18(*, num_classes: int = 10, in_channels: int = 3, width: int = 64) -> ResNet:
    """CIFAR-style ResNet18: a 3x3 stem of stride 1, no max-pool.

    11,173,962 parameters for three channels and ten classes (contrastive paper, Table 1).
    """
    return ResNet((2, 2, 2, 2), num_classes, in_channels, width, imagenet_stem=False)


def resnet34(*, num_classes: int = 43, in_channels: int = 3, width: int = 64) -> ResNet:
    """ImageNet-style ResNet34: a 7x7 stem of stride 2 and a max-pool.

    21,306,731 parameters for three channels and 43 classes: by that number, the contrastive paper's ResNet32
    (Table 1).
    """
    return ResNet((3, 4, 6, 3), num_classes, in_channels, width, imagenet_stem=True)


def _stage(blocks: int, in_channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_channels, width, stride), *(BasicBlock(width, width, 1) for _ in range(blocks - 1))
    )
