"""Networks of a few hundred weights, named in settings as ``tiny_nets:linear`` and so on."""

from torch import Tensor, nn


def linear(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size[0] * image_size[1], num_classes))


def deep(num_classes: int, in_channels: int, image_size: tuple[int, int], hidden: int = 1) -> nn.Module:
    return nn.Sequential(linear(hidden, in_channels, image_size), nn.ReLU(), nn.Linear(hidden, num_classes))


def conv(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """With everything that a resumed run could get wrong: batch statistics, a counter and dropout."""
    height, width = image_size
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(4 * height * width, num_classes),
    )


class Viewed(nn.Module):
    """As many write it: ``view`` needs what the convolution gives in the usual layout."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.head = nn.Linear(4 * image_size[0] * image_size[1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        between = self.convolution(images)
        logits: Tensor = self.head(between.view(len(images), -1))
        return logits


def hooked(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """It can't be pickled."""
    model = linear(num_classes, in_channels, image_size)
    model.register_forward_hook(lambda *_: None)
    return model


def flat_norm(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """Batch normalisation without pixels to average over, which can't be trained on a single image."""
    inputs = in_channels * image_size[0] * image_size[1]
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(inputs), nn.Linear(inputs, num_classes))


def too_few_classes(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    return linear(num_classes - 1, in_channels, image_size)


def colour_only(num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    return linear(num_classes, 3, image_size)
