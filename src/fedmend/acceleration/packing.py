"""Convolutions with weights pre-packed for oneDNN.

For few images, reordering the weights takes as long as convolving; frozen weights need it only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, leaky_relu

from fedmend.acceleration.onednn import (
    Geometry,
    Pair,
    convolve,
    convolve_transposed,
    prepack,
    prepack_transposed,
)


def packed(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """A copy of the model with packed convolutions, which shares all other parameters and buffers.

    Args:
        model: in eval mode, with frozen weights in float32 or bfloat16.
        layout: of the convolutions' inputs and outputs; channels-last is faster, if the model supports it.

    Returns:
        The model itself, if it has no convolutions to pack or this torch can't pack them.

    Raises:
        Exception: of any type, if the model can't be copied.
    """
    found = packable(model)
    if not found or not all(packs(dtype) for dtype in {module.weight.dtype for module in found.values()}):
        return model
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    copy = deepcopy(model, shared)
    for name, module in found.items():
        copy.set_submodule(name, PackedConvolutions([Layer.of(module)], layout))
    return copy


def packable(model: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions that can be packed, by name: on a CPU, without hooks, groups or dilation."""
    return {
        name: module
        for name, module in model.named_modules()
        if name and type(module) is nn.Conv2d and _can_be_packed(module)
    }


def _can_be_packed(module: nn.Conv2d) -> bool:
    return (
        not hooked(module)
        and (module.groups, module.dilation, module.padding_mode) == (1, (1, 1), "zeros")
        and not isinstance(module.padding, str)
        and module.weight.device.type == "cpu"
        and module.weight.dtype in (torch.float32, torch.bfloat16)
    )


def hooked(module: nn.Module) -> bool:
    """Whether the module has hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether torch's private operators agree with its public ones, forward and backward."""

    def numbers(*shape: int) -> Tensor:
        return torch.linspace(-1, 1, prod(shape), device="cpu").to(dtype).view(shape)

    weight, bias, wide = numbers(6, 2, 3, 3), numbers(6), numbers(8, 6, 3, 2)
    layers = [
        Layer(weight, bias, Geometry([2, 2], [1, 1]), 0.1),
        Layer(wide, None, Geometry([2, 1], [1, 1])),
    ]

    def public(images: Tensor) -> Tensor:
        between = leaky_relu(conv2d(images, weight, bias, 2, 1), 0.1)
        return conv2d(between, wide, None, (2, 1), 1)

    results = []
    try:
        for convolutions in (PackedConvolutions(layers, torch.channels_last), public):
            images = numbers(2, 2, 5, 5).requires_grad_()
            with torch.enable_grad():
                outputs = convolutions(images)
                results.append((outputs, *torch.autograd.grad(outputs.square().sum(), images)))
    except Exception:  # a missing operator, other arguments, a build without oneDNN
        return False
    near = 1e-3 if dtype == torch.float32 else 0.05
    return all(
        bool((private - expected).abs().max() <= near * expected.abs().max())
        for private, expected in zip(*results, strict=True)
    )


class Layer:
    """A convolution with packed weights and, if ``slope`` is given, the ReLU (0) or LeakyReLU behind it.

    Weights (O, C, h, w) are packed in the first pass of either direction, for its shapes; later passes may have others.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, geometry: Geometry, slope: float | None = None
    ) -> None:
        self.bias, self.geometry, self.slope = bias, geometry, slope
        self.weight: Tensor | None = weight  # until it is packed for both directions
        self.forward_weight: Tensor | None = None
        self.backward: Transposed | None = None

    @staticmethod
    def of(module: nn.Conv2d) -> Layer:
        """The layer of torch's module."""
        bias = None if module.bias is None else module.bias.detach()
        geometry = Geometry(list(module.stride), [int(each) for each in module.padding])
        return Layer(module.weight.detach(), bias, geometry)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to outputs (N, O, H', W')."""
        if self.forward_weight is None:
            assert self.weight is not None
            self.forward_weight = prepack(self.weight, self.geometry, images.shape)
        return convolve(images, self.forward_weight, self.bias, self.geometry, self.slope)

    def gradient(self, gradient: Tensor, outputs: Tensor | None, size: Sequence[int]) -> Tensor:
        """The gradient at images of this size, from the gradient at the outputs; an activation needs ``outputs``."""
        if self.slope is not None:
            gradient = torch.ops.aten.leaky_relu_backward.default(gradient, outputs, self.slope, True)
        if self.backward is None:
            assert self.weight is not None
            self.backward = Transposed(self.weight, self.geometry, gradient.shape, size)
            self.weight = None
        return self.backward(gradient, size)


class Transposed:
    """A convolution's gradient at its images, by transposed convolution with weights packed once."""

    def __init__(self, weight: Tensor, geometry: Geometry, shape: Sequence[int], size: Sequence[int]) -> None:
        self.kernel, self.geometry = weight.shape[2:], geometry
        self.weight = prepack_transposed(weight, geometry, self._left(shape, size), shape)

    def __call__(self, gradient: Tensor, size: Sequence[int]) -> Tensor:
        """Gradients (N, O, H', W') to gradients (N, C, H, W) at images of this size."""
        return convolve_transposed(gradient, self.weight, self.geometry, self._left(gradient.shape, size))

    def _left(self, shape: Sequence[int], size: Sequence[int]) -> Pair:
        sides = zip(size, shape[2:], self.kernel, self.geometry.stride, self.geometry.padding, strict=True)
        return [side - ((out - 1) * stride - 2 * pad + kernel) for side, out, kernel, stride, pad in sides]


class PackedConvolutions(nn.Module):
    """Consecutive convolutions with their activations; inputs and outputs share one layout."""

    def __init__(self, layers: Sequence[Layer], layout: torch.memory_format) -> None:
        super().__init__()
        self.layers, self.layout = list(layers), layout

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to the last layer's outputs."""
        if images.requires_grad and torch.is_grad_enabled():
            result: Tensor = _Convolve.apply(images, self)  # type: ignore[no-untyped-call]
            return result
        for layer in self.layers:
            images = self.laid_out(layer(self.laid_out(images)))
        return images

    def laid_out(self, values: Tensor) -> Tensor:
        """Convert to the module's layout."""
        return values.contiguous(memory_format=self.layout)


class _Convolve(torch.autograd.Function):
    """All layers as one autograd step: forward, and backward to the images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, module: PackedConvolutions) -> Tensor:
        ctx.module, ctx.sizes, kept = module, [], []
        for layer in module.layers:
            ctx.sizes.append(images.shape[2:])
            images = module.laid_out(layer(module.laid_out(images)))
            kept.append(None if layer.slope is None else images)
        ctx.save_for_backward(*kept)
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        module, (gradient,) = ctx.module, gradients
        steps = zip(module.layers, ctx.saved_tensors, ctx.sizes, strict=True)
        for layer, outputs, size in reversed(list(steps)):
            gradient = layer.gradient(module.laid_out(gradient), outputs, size)
        return gradient, None
