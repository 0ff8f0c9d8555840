"""Convolutions whose weights are in the processor's own order once and for all, not put into it in every pass.

On a CPU torch has oneDNN convolve, which wants the weights in blocks: in another order forward than back to the pixels.
For few images at once, putting them in order takes as long as convolving, and frozen weights need it only once.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


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
        copy.set_submodule(name, _PackedConvolution(module, layout))
    return copy


@cache
def _works() -> bool:
    """Whether this torch's packed convolutions, no public interface, answer like its others, forward and back."""
    plain = nn.utils.skip_init(nn.Conv2d, 2, 3, 3, stride=2, padding=1)  # nothing drawn
    plain.weight.data.copy_(torch.linspace(-1, 1, plain.weight.numel()).view_as(plain.weight))
    plain.bias.data.zero_()
    results = []
    try:
        for layer in (plain, _PackedConvolution(plain, torch.channels_last)):
            images = torch.linspace(0, 1, 2 * 2 * 5 * 5).view(2, 2, 5, 5).requires_grad_()
            with torch.enable_grad():
                answers = layer(images)
                results.append((answers, *torch.autograd.grad(answers.square().sum(), images)))
    except Exception:  # a missing operator, other arguments, a build without oneDNN
        return False
    return all(
        torch.allclose(mine, torchs, rtol=1e-3, atol=1e-5) for torchs, mine in zip(*results, strict=True)
    )


def _can_be_packed(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and (module.groups, module.dilation, module.padding_mode) == (1, (1, 1), "zeros")
        and not isinstance(module.padding, str)
        and (module.weight.device.type, module.weight.dtype) == ("cpu", torch.float32)
    )


class _PackedConvolution(nn.Module):
    def __init__(self, convolution: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        assert isinstance(convolution, nn.Conv2d)
        self.stride, self.padding = list(convolution.stride), [int(each) for each in convolution.padding]
        self.kernel, self.layout = convolution.kernel_size, layout
        self.weight: Tensor | None = convolution.weight.detach()  # until it is packed both ways
        self.bias = convolution.bias
        self.forth: Tensor | None = None
        self.back: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = _Convolve.apply(images.contiguous(memory_format=self.layout), self)  # type: ignore[no-untyped-call]
        return result.contiguous(memory_format=self.layout)


class _Convolve(torch.autograd.Function):
    """By the packed weights, and back to the pixels by those of the transposed convolution."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, layer: _PackedConvolution) -> Tensor:
        ctx.layer, ctx.size = layer, images.shape[2:]
        if layer.forth is None:
            layer.forth = torch.ops.mkldnn._reorder_convolution_weight.default(
                layer.weight, layer.padding, layer.stride, [1, 1], 1, list(images.shape)
            )
        result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            *(images, layer.forth, layer.bias, layer.padding, layer.stride, [1, 1], 1, "none", [], "")
        )
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layer, gradient = ctx.layer, gradients[0].contiguous(memory_format=ctx.layer.layout)
        sides = zip(ctx.size, gradient.shape[2:], layer.kernel, layer.stride, layer.padding, strict=True)
        left = [side - ((out - 1) * stride - 2 * pad + kernel) for side, out, kernel, stride, pad in sides]
        if layer.back is None:
            layer.back = torch.ops.mkldnn._reorder_convolution_transpose_weight.default(
                layer.weight, layer.padding, left, layer.stride, [1, 1], 1, list(gradient.shape)
            )
            layer.weight = None
        result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise.default(
            *(gradient, layer.back, None, layer.padding, left, layer.stride, [1, 1], 1, "none", [], "")
        )
        return result, None
