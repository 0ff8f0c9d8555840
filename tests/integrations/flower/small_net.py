"""A small network, named in settings as ``small_net:small``."""

from torch import nn


def small(num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    height, width = image_size
    return nn.Sequential(
        nn.Conv2d(in_channels, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(3 * height * width, num_classes),
    )
