"""Small networks with convolutions and BatchNorm, and what tests measure of them."""

import torch
from torch import Tensor, nn

from fedmend.acceleration.packing import PackedConvolutions
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
    return sum(len(module.layers) for module in model.modules() if isinstance(module, PackedConvolutions))


def logits_and_gradient(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient at the pixels of a weighted sum of them."""
    pixels = images.clone().requires_grad_()
    logits = model(pixels)
    weights = torch.rand(logits.shape, generator=generator(1))
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), pixels)[0]


def assert_alike(model: nn.Module, other: nn.Module, images: Tensor) -> None:
    """The same logits and gradients, but for rounding."""
    logits, gradients = zip(*(logits_and_gradient(each, images) for each in (model, other)), strict=True)
    assert torch.allclose(*logits, rtol=1e-4, atol=1e-5)
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))


class Body(nn.Module):
    """A convolution with BatchNorm, and each channel's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        means: Tensor = self.body(images).mean((2, 3))
        return means


def compiled(num_classes: int) -> nn.Module:
    """A compiled network for images of 4x4 pixels."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))
    return torch.compile(net, backend="eager")  # type: ignore[return-value]
