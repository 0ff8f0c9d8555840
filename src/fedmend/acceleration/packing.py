"""Convolutions whose weights are in the processor's own order once and for all, not put into it in every pass.

For few images at once, putting them in order takes as long as convolving, and frozen weights need it only once.
Convolutions in a row, with ReLU or LeakyReLU between them, can be joined: they are one step to autograd, whose own work
is a good part of a small network's time.
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

from fedmend.acceleration.interleaving import Interleaved
from fedmend.acceleration.onednn import Pair, convolve, convolve_transposed, ordered, ordered_transposed

_FEW_CHANNELS = 4
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def packed(model: nn.Module, layout: torch.memory_format, *, join: bool = False) -> nn.Module:
    """A copy of the model with packed convolutions; other parameters and buffers are shared.

    Args:
        model: in eval mode, with frozen weights.
        layout: of what a convolution is given and gives: channels-last is faster, if the model can do with it.
        join: make one module of those that follow one another in an ``nn.Sequential``, with the activations between
            them; in the others' places is ``nn.Identity``.

    Returns:
        The model as it is, on another device than a CPU, where there is nothing to pack, and with a torch that has no
        oneDNN or another interface to it. Weights may be in single precision or bfloat16.

    Raises:
        Exception: of any kind: the model can't be copied.
    """
    found = {name: module for name, module in model.named_modules() if name and can_be_packed(module)}
    if not found or not all(packs(dtype) for dtype in {module.weight.dtype for module in found.values()}):
        return model
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    copy = deepcopy(model, shared)
    for name, module in found.items():
        copy.set_submodule(name, PackedConvolutions.of(module, layout))
    for module in list(copy.modules()):
        if join and type(module) is nn.Sequential:
            _join(module)
    return copy


def _join(sequence: nn.Sequential) -> None:
    """Make one of packed convolutions in a row and the activations behind them, in place.

    An activation behind the last one is joined only where torch, too, would keep what it gives for the way back: else
    a model may go on to change that in place.
    """
    run: PackedConvolutions | None = None
    behind: tuple[str, nn.Module] | None = None  # the activation behind the run's last convolution

    def take_in() -> None:
        nonlocal behind
        if run is not None and behind is not None:
            run.layers[-1].slope = _slope(behind[1])
            sequence._modules[behind[0]] = nn.Identity()
        behind = None

    def end() -> None:
        nonlocal run, behind
        if behind is not None and (type(behind[1]) is nn.ReLU or getattr(behind[1], "inplace", False)):
            take_in()
        run = behind = None

    for name, module in list(sequence._modules.items()):  # a module may be there twice
        if isinstance(module, PackedConvolutions) and run is not None:
            take_in()
            run.layers += module.layers
            sequence._modules[name] = nn.Identity()
        elif isinstance(module, PackedConvolutions):
            run = module
        elif run is not None and module is not None and behind is None and _slope(module) is not None:
            behind = name, module
        elif type(module) not in _NOTHING or _hooked(module):
            end()
        elif run is not None:
            sequence._modules[name] = nn.Identity()
    end()


def _slope(activation: nn.Module) -> float | None:
    """Of ReLU and LeakyReLU; one below 0 hides from what side an answer came."""
    if _hooked(activation):
        return None
    if type(activation) is nn.LeakyReLU and activation.negative_slope >= 0:
        return float(activation.negative_slope)
    return 0.0 if type(activation) is nn.ReLU else None


def _hooked(module: nn.Module) -> bool:
    """Whether what it is given or gives is seen by others."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether this torch's packed convolutions, no public interface, answer like its others, forward and back."""

    def numbers(*shape: int) -> Tensor:
        return torch.linspace(-1, 1, prod(shape), device="cpu").to(dtype).view(shape)

    weight, bias, wide = numbers(6, 2, 3, 3), numbers(6), numbers(8, 6, 3, 2)
    layers = [_Layer(weight, bias, [2, 2], [1, 1], 0.1), _Layer(wide, None, [2, 1], [1, 1])]

    def plain(images: Tensor) -> Tensor:
        between = leaky_relu(conv2d(images, weight, bias, 2, 1), 0.1)
        return conv2d(between, wide, None, (2, 1), 1)

    results = []
    try:
        for answer in (PackedConvolutions(layers, torch.channels_last), plain):
            images = numbers(2, 2, 5, 5).requires_grad_()
            with torch.enable_grad():
                answers = answer(images)
                results.append((answers, *torch.autograd.grad(answers.square().sum(), images)))
    except Exception:  # a missing operator, other arguments, a build without oneDNN
        return False
    near = 1e-3 if dtype == torch.float32 else 0.05
    return all(
        bool((mine - torchs).abs().max() <= near * torchs.abs().max())
        for mine, torchs in zip(*results, strict=True)
    )


def can_be_packed(module: nn.Module) -> bool:
    """Whether it is a convolution as packing knows it, and nobody else's."""
    return (
        type(module) is nn.Conv2d
        and not _hooked(module)
        and (module.groups, module.dilation, module.padding_mode) == (1, (1, 1), "zeros")
        and not isinstance(module.padding, str)
        and module.weight.device.type == "cpu"
        and module.weight.dtype in (torch.float32, torch.bfloat16)
    )


class _Layer:
    """A convolution by packed weights and, if there is a ``slope``, ReLU (0) or LeakyReLU behind it."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        slope: float | None = None,
    ) -> None:
        self.bias, self.stride, self.padding, self.slope = bias, stride, padding, slope
        self.weight: Tensor | None = weight  # until it is packed both ways
        self.forth: Tensor | None = None
        self.back: Interleaved | _Transposed | None = None

    def __call__(self, images: Tensor) -> Tensor:
        if self.forth is None:
            assert self.weight is not None
            self.forth = ordered(self.weight, self.padding, self.stride, images.shape)
        return convolve(images, self.forth, self.bias, self.padding, self.stride, self.slope)

    def gradient(self, gradient: Tensor, answers: Tensor | None, size: Sequence[int]) -> Tensor:
        """At the images, of this size, from that at the answers, which an activation needs."""
        if self.slope is not None:
            gradient = torch.ops.aten.leaky_relu_backward.default(gradient, answers, self.slope, True)
        if self.back is None:
            assert self.weight is not None
            few = self.weight.shape[1] <= _FEW_CHANNELS and max(self.stride) > 1
            way = Interleaved if few else _Transposed
            self.back = way(self.weight, self.stride, self.padding, gradient.shape, size)
            self.weight = None
        return self.back(gradient, size)


class _Transposed:
    """A convolution's gradient at its images by the transposed convolution; see :class:`Interleaved`."""

    def __init__(
        self, weight: Tensor, stride: Pair, padding: Pair, shape: Sequence[int], size: Sequence[int]
    ) -> None:
        self.kernel, self.stride, self.padding = weight.shape[2:], stride, padding
        self.weight = ordered_transposed(weight, padding, self._left(shape, size), stride, shape)

    def __call__(self, gradient: Tensor, size: Sequence[int]) -> Tensor:
        left = self._left(gradient.shape, size)
        return convolve_transposed(gradient, self.weight, self.padding, left, self.stride)

    def _left(self, shape: Sequence[int], size: Sequence[int]) -> Pair:
        sides = zip(size, shape[2:], self.kernel, self.stride, self.padding, strict=True)
        return [side - ((out - 1) * stride - 2 * pad + kernel) for side, out, kernel, stride, pad in sides]


class PackedConvolutions(nn.Module):
    """Convolutions in a row, and their activations; images and answers in one layout."""

    def __init__(self, layers: Sequence[_Layer], layout: torch.memory_format) -> None:
        super().__init__()
        self.layers, self.layout = list(layers), layout

    @staticmethod
    def of(module: nn.Module, layout: torch.memory_format) -> PackedConvolutions:
        """A single one, that of torch's module."""
        assert isinstance(module, nn.Conv2d)
        padding = [int(each) for each in module.padding]
        bias = None if module.bias is None else module.bias.detach()
        layer = _Layer(module.weight.detach(), bias, list(module.stride), padding)
        return PackedConvolutions([layer], layout)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to what the last convolution answers."""
        if images.requires_grad and torch.is_grad_enabled():
            result: Tensor = _Convolve.apply(images, self)  # type: ignore[no-untyped-call]
            return result
        for layer in self.layers:
            images = self.laid_out(layer(self.laid_out(images)))
        return images

    def laid_out(self, values: Tensor) -> Tensor:
        """In the layout that was asked for."""
        return values.contiguous(memory_format=self.layout)


class _Convolve(torch.autograd.Function):
    """Forward by the packed convolutions, and back to the pixels by those that undo them."""

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
        for layer, answers, size in reversed(list(steps)):
            gradient = layer.gradient(module.laid_out(gradient), answers, size)
        return gradient, None
