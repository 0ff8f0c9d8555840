"""The federated pruning paper's network for Fashion-MNIST: three convolutions, two linear layers."""

from __future__ import annotations

from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.models.normalization import Normalize


class ThreeConv(nn.Module):
    """Three 3x3 convolutions, each with a 2x2 max-pool and ReLU, then two linear layers.

    The federated pruning paper (section 5) specifies only "three convolutional layers and another two fully
    connected layers". The widths (16, 32 and 64 channels, 128 hidden units), kernels and pools are fedmend's. The
    paper puts batch normalisation between the layers (4.3), which is off by default.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: height and width of the images, 8 or more each.
        batch_norm: put batch normalisation between each convolution and its pool.

    Raises:
        ModelError: the images are too small.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        height, width = (side // 8 for side in image_size)
        if height < 1 or width < 1:
            raise ModelError(
                f"this network needs images of at least 8x8; got {image_size[0]}x{image_size[1]}"
            )
        self.normalize = Normalize()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = (
            nn.BatchNorm2d(width) if batch_norm else nn.Identity() for width in (16, 32, 64)
        )
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * height * width, 128)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], float (N, C, H, W) of the size given when built, to logits (N, classes)."""
        x = self.normalize(images)
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = self.relu(self.pool(norm(conv(x))))
        logits: Tensor = self.fc2(self.relu(self.fc1(x.flatten(1))))
        return logits


def three_conv(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: tuple[int, int] = (28, 28),
    batch_norm: bool = False,
) -> ThreeConv:
    """The paper's network for Fashion-MNIST (see :class:`ThreeConv`)."""
    return ThreeConv(num_classes, in_channels, image_size, batch_norm=batch_norm)
