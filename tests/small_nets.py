"""Small networks with convolutions and BatchNorm, and what a test asks of them."""

import torch
from torch import Tensor, nn

from fedmend.inversion.packing import _PackedConvolution
from fedmend.seeds import generator

IMAGES = torch.rand(10, 3, 16, 16, generator=generator(0))


def settled(model: nn.Module) -> nn.Module:
    """In eval mode, each BatchNorm with statistics, weights and offsets of its own."""
    numbers = generator(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                values.data = 0.5 + torch.rand(values.shape, generator=numbers)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def convolutions(model: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv2d) for module in model.modules())


def packed_ones(model: nn.Module) -> int:
    return sum(isinstance(module, _PackedConvolution) for module in model.modules())


class Body(nn.Module):
    """A convolution with BatchNorm, and the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.body(images).mean((2, 3))
        return answers
