"""Convolutions whose weights are in the processor's own order once and for all, not put into it in every pass.

For few images at once, putting them in order takes as long as convolving, and frozen weights need it only once.
Convolutions in a row, with ReLU or LeakyReLU between them, are one step to autograd, which is half of a small network's
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu

from fedmend.inversion.interleaving import Interleaved
from fedmend.inversion.onednn import Pair, convolve, convolve_transposed, ordered, ordered_transposed

_FEW_CHANNELS = 4
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def packed(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """A copy of the model with packed convolutions; what else there is is shared.

    Args:
        model: in eval mode, with frozen weights.
        layout: of what a convolution is given and gives: channels-last is faster, if the model can do with it.

    Returns:
        The model as it is, on another device than a CPU, where there is nothing to pack, and with a torch that has no
        oneDNN or another interface to it.

    Raises:
        Exception: of any kind: the model can't be copied.
    """
    found = {name: module for name, module in model.named_modules() if name and _can_be_packed(module)}
    if not found or not _works():
        return model
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    copy = deepcopy(model, shared)
    for name, module in found.items():
        copy.set_submodule(name, PackedConvolutions.of(module, layout))
    for module in copy.modules():
        if type(module) is nn.Sequential:
            _join(module)
    return copy


def _join(sequence: nn.Sequential) -> None:
    """Make one of packed convolutions in a row and the activations behind them, in place."""
    run: PackedConvolutions | None = None
    for name, module in list(sequence.named_children()):
        if isinstance(module, PackedConvolutions) and run is None:
            run = module
            continue
        if run is None:
            continue
        slope = _slope(module)
        if isinstance(module, PackedConvolutions):
            run.layers += module.layers
        elif slope is not None and run.layers[-1].slope is None:
            run.layers[-1].slope = slope
        elif type(module) not in _NOTHING:
            run = None
            continue
        delattr(sequence, name)


def _slope(activation: nn.Module) -> float | None:
    """Of ReLU and LeakyReLU; one below 0 hides from what side an answer came."""
    if type(activation) is nn.LeakyReLU and activation.negative_slope >= 0:
        return float(activation.negative_slope)
    return 0.0 if type(activation) is nn.ReLU else None


@cache
def _works() -> bool:
    """Whether this torch's packed convolutions, no public interface, answer like its others, forward and back."""
    weight, bias = torch.linspace(-1, 1, 108).view(6, 2, 3, 3), torch.linspace(0, 1, 6)
    wide = torch.linspace(-1, 1, 288).view(8, 6, 3, 2)
    layers = [_Layer(weight, bias, [2, 2], [1, 1], 0.1), _Layer(wide, None, [1, 1], [1, 1])]

    def plain(images: Tensor) -> Tensor:
        between = leaky_relu(conv2d(images, weight, bias, 2, 1), 0.1)
        return conv2d(between, wide, None, 1, 1)

    results = []
    try:
        for answer in (PackedConvolutions(layers, torch.channels_last), plain):
            images = torch.linspace(0, 1, 100).view(2, 2, 5, 5).requires_grad_()
            with torch.enable_grad():
                answers = answer(images)
                results.append((answers, *torch.autograd.grad(answers.square().sum(), images)))
    except Exception:  # a missing operator, other arguments, a build without oneDNN
        return False
    return all(
        torch.allclose(mine, torchs, rtol=1e-3, atol=1e-5) for mine, torchs in zip(*results, strict=True)
    )


def _can_be_packed(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and (module.groups, module.dilation, module.padding_mode) == (1, (1, 1), "zeros")
        and not isinstance(module.padding, str)
        and (module.weight.device.type, module.weight.dtype) == ("cpu", torch.float32)
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

    def gradient(self, gradient: Tensor, answers: Tensor, images: Tensor) -> Tensor:
        """At the images, from that at the answers."""
        if self.slope is not None:
            gradient = torch.ops.aten.leaky_relu_backward.default(gradient, answers, self.slope, True)
        if self.back is None:
            assert self.weight is not None
            few = self.weight.shape[1] <= _FEW_CHANNELS and max(self.stride) > 1
            self.back = (Interleaved if few else _Transposed)(self.weight, self.stride, self.padding)
            self.weight = None
        return self.back(gradient, images.shape[2:])


class _Transposed:
    """A convolution's gradient at its images, of the size that is given, by the transposed convolution."""

    def __init__(self, weight: Tensor, stride: Pair, padding: Pair) -> None:
        self.weight, self.kernel, self.stride, self.padding = weight, weight.shape[2:], stride, padding
        self.is_ordered = False

    def __call__(self, gradient: Tensor, size: Sequence[int]) -> Tensor:
        sides = zip(size, gradient.shape[2:], self.kernel, self.stride, self.padding, strict=True)
        left = [side - ((out - 1) * stride - 2 * pad + kernel) for side, out, kernel, stride, pad in sides]
        if not self.is_ordered:
            self.weight = ordered_transposed(self.weight, self.padding, left, self.stride, gradient.shape)
            self.is_ordered = True
        return convolve_transposed(gradient, self.weight, self.padding, left, self.stride)


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
        layer = _Layer(module.weight.detach(), module.bias, list(module.stride), padding)
        return PackedConvolutions([layer], layout)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to what the last convolution answers."""
        if images.requires_grad and torch.is_grad_enabled():
            result: Tensor = _Convolve.apply(images, self)  # type: ignore[no-untyped-call]
            return result
        return self.answers(images)[-1]

    def answers(self, images: Tensor) -> list[Tensor]:
        """The images, and what each convolution makes of the one before it."""
        steps = [images.contiguous(memory_format=self.layout)]
        for layer in self.layers:
            steps.append(layer(steps[-1]).contiguous(memory_format=self.layout))
        return steps


class _Convolve(torch.autograd.Function):
    """By the packed weights, and back to the pixels by those of another convolution."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, module: PackedConvolutions) -> Tensor:
        steps = module.answers(images)
        ctx.module = module
        ctx.save_for_backward(*steps)
        return steps[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        steps, module = ctx.saved_tensors, ctx.module
        gradient = gradients[0]
        for layer, (images, answers) in reversed(list(zip(module.layers, pairwise(steps), strict=True))):
            gradient = gradient.contiguous(memory_format=module.layout)
            gradient = layer.gradient(gradient, answers, images)
        return gradient, None
