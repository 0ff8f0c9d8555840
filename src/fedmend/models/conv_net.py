"""The contrastive paper's ConvNet for MNIST."""

from __future__ import annotations

from torch import Tensor, nn

from fedmend.models.normalization import Normalize

_WIDTHS = (12, 40, 64, 128)


class ConvNet(nn.Module):
    """A small convolutional network with 102,730 parameters for one channel and ten classes.

    The contrastive paper (Table 1 and its appendix) gives the kinds of layers (convolutions, LeakyReLU,
    dropout) and the number of parameters. The widths and strides are fedmend's, chosen to match that number
    exactly: four 3x3 convolutions of stride 2, 12, 40, 64 and 128 channels wide, then a global average and
    one linear layer. Dropout drops whole channels, which is a third cheaper on a CPU.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        dropout: probability, in [0, 1), of dropping a channel after each convolution.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.normalize = Normalize()
        layers: list[nn.Module] = []
        before = in_channels
        for width in _WIDTHS:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1),
                nn.LeakyReLU(),
                nn.Dropout2d(dropout),
            ]
            before = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], float (N, C, H, W) of any height and width, to logits (N, classes)."""
        features = self.pool(self.features(self.normalize(images))).flatten(1)
        logits: Tensor = self.fc(features)
        return logits


def convnet(*, num_classes: int = 10, in_channels: int = 1) -> ConvNet:
    """The contrastive paper's ConvNet (see :class:`ConvNet`)."""
    return ConvNet(num_classes, in_channels)
