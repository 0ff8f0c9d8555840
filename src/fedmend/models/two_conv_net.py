"""The federated pruning paper's networks for MNIST: two convolutions, two linear layers."""

from __future__ import annotations

from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.models.normalization import Normalize


class TwoConv(nn.Module):
    """Two 5x5 convolutions, each with a 2x2 max-pool and ReLU, then two linear layers.

    The federated pruning paper (5.5.2) gives the number of convolutional channels, 20 and 50 or 8 and 16. The
    rest is fedmend's: 5x5 kernels without padding and 500 or 128 hidden units, after LeNet. The paper puts
    batch normalisation between the layers (4.3), which is off by default. ReLU comes after the pool: same
    outputs, a quarter of the work.

    Args:
        widths: channels of the two convolutions.
        hidden: units of the first linear layer.
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: height and width of the images, 16 or more each.
        batch_norm: put batch normalisation between each convolution and its pool.

    Raises:
        ModelError: the images are too small.
    """

    def __init__(
        self,
        widths: tuple[int, int],
        hidden: int,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        height, width = (((side - 4) // 2 - 4) // 2 for side in image_size)
        if height < 1 or width < 1:
            raise ModelError(
                f"this network needs images of at least 16x16; got {image_size[0]}x{image_size[1]}"
            )
        self.normalize = Normalize()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 5)
        self.bn1 = nn.BatchNorm2d(widths[0]) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5)
        self.bn2 = nn.BatchNorm2d(widths[1]) if batch_norm else nn.Identity()
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(widths[1] * height * width, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], float (N, C, H, W) of the size given when built, to logits (N, classes)."""
        x = self.relu(self.pool(self.bn1(self.conv1(self.normalize(images)))))
        x = self.relu(self.pool(self.bn2(self.conv2(x))))
        logits: Tensor = self.fc2(self.relu(self.fc1(x.flatten(1))))
        return logits


def two_conv_20_50(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: tuple[int, int] = (28, 28),
    batch_norm: bool = False,
) -> TwoConv:
    """The paper's larger network for MNIST, 431,080 parameters (see :class:`TwoConv`)."""
    return TwoConv((20, 50), 500, num_classes, in_channels, image_size, batch_norm=batch_norm)


def two_conv_8_16(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: tuple[int, int] = (28, 28),
    batch_norm: bool = False,
) -> TwoConv:
    """The paper's small network, for which adjusting extreme weights is enough (see :class:`TwoConv`)."""
    return TwoConv((8, 16), 128, num_classes, in_channels, image_size, batch_norm=batch_norm)
