"""DeepInspect's conditional generator of triggers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu, linear

from fedmend.detection.search.adam import Adam

_HIDDEN, _MAPS, _LARGEST = 128, 8, 32
_START = 0.1
"""Scale of the last layer's first weights: triggers begin faint."""


class TriggerGenerator:
    """From noise and a class to an additive trigger: two linear layers and two 3x3 convolutions.

    Args:
        classes: number of classes, which are conditions.
        shape: of a trigger, (C, H, W).
        noise: number of noise dimensions.
        rng: on the CPU, for the weights and the noise.
        device: of the weights.
    """

    def __init__(
        self,
        classes: int,
        shape: tuple[int, int, int],
        noise: int,
        rng: torch.Generator,
        device: torch.device,
    ) -> None:
        channels, height, width = shape
        self._size, self._small = (height, width), (min(height, _LARGEST), min(width, _LARGEST))
        self._classes, self._noise, self._rng, self._device = classes, noise, rng, device
        pixels = self._small[0] * self._small[1]
        sizes = [
            (_HIDDEN, noise + classes),
            (_MAPS * pixels, _HIDDEN),
            (_MAPS, _MAPS, 3, 3),
            (channels, _MAPS, 3, 3),
        ]
        self.weights = _drawn(sizes, rng, device)
        with torch.no_grad():
            self.weights[-2].mul_(_START)

    def __call__(self) -> Tensor:
        """A trigger for every class from new noise, (classes, C, H, W) in [-1, 1]; differentiable."""
        noise = torch.randn(self._classes, self._noise, generator=self._rng).to(self._device)
        conditions = torch.eye(self._classes, device=self._device)
        first, first_bias, second, second_bias, third, third_bias, last, last_bias = self.weights
        hidden = leaky_relu(linear(torch.cat([noise, conditions], 1), first, first_bias), 0.2)
        maps = leaky_relu(linear(hidden, second, second_bias), 0.2).view(-1, _MAPS, *self._small)
        maps = leaky_relu(conv2d(maps, third, third_bias, padding=1), 0.2)
        if self._small != self._size:
            maps = interpolate(maps, self._size, mode="bilinear")
        return conv2d(maps, last, last_bias, padding=1).tanh()


class Descent:
    """Adam on several weights.

    Args:
        weights: leaves that require a gradient; changed in place.
        lr: learning rate.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float) -> None:
        self._weights, self._lr = list(weights), lr
        self._adams = [Adam(weight.detach()) for weight in weights]  # shares its memory

    def step(self, loss: Tensor) -> None:
        """Move the weights against the gradient of the loss."""
        for adam, gradient in zip(self._adams, torch.autograd.grad(loss, self._weights), strict=True):
            adam.step(gradient, self._lr)


def _drawn(sizes: list[tuple[int, ...]], rng: torch.Generator, device: torch.device) -> list[Tensor]:
    """For each size a weight, drawn so that outputs keep their inputs' scale, and a bias of 0."""
    drawn = []
    for size in sizes:
        weight = torch.randn(size, generator=rng) * math.sqrt(2 / math.prod(size[1:]))
        drawn += [weight.to(device).requires_grad_(), torch.zeros(size[0], device=device).requires_grad_()]
    return drawn
