"""Convolutions by oneDNN with weights in its own order, through an interface of torch that isn't public.

On a CPU torch has oneDNN convolve, which wants the weights in blocks: in another order forward than back to the pixels.
Given others, it puts them in order in every pass. All here are in single precision or bfloat16, without groups
or dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Pair: TypeAlias = list[int]
"""Vertical and horizontal."""

_DENSE = ([1, 1], 1)


def ordered(weight: Tensor, padding: Pair, stride: Pair, shape: Sequence[int]) -> Tensor:
    """Weights (O, C, h, w) in the order for :func:`convolve` on images of this shape."""
    result: Tensor = torch.ops.mkldnn._reorder_convolution_weight.default(
        weight, padding, stride, *_DENSE, list(shape)
    )
    return result


def convolve(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Pair,
    stride: Pair,
    slope: float | None = None,
) -> Tensor:
    """By weights of :func:`ordered`, with ReLU (a slope of 0) or LeakyReLU behind it, if there is a slope.

    oneDNN's own ReLU would make 0 of NaN.
    """
    kind, scalars = ("leaky_relu", [slope]) if slope else ("none", [])
    result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        images, weight, bias, padding, stride, *_DENSE, kind, scalars, ""
    )
    return result if slope is None or slope else result.relu_()


def ordered_transposed(
    weight: Tensor, padding: Pair, left: Pair, stride: Pair, shape: Sequence[int]
) -> Tensor:
    """Weights (O, C, h, w) in the order for :func:`convolve_transposed` on gradients of this shape."""
    result: Tensor = torch.ops.mkldnn._reorder_convolution_transpose_weight.default(
        weight, padding, left, stride, *_DENSE, list(shape)
    )
    return result


def convolve_transposed(gradient: Tensor, weight: Tensor, padding: Pair, left: Pair, stride: Pair) -> Tensor:
    """From the gradient at what was convolved to that at the images, by weights of :func:`ordered_transposed`.

    ``left`` is what the convolution's last step left over of the images' sides.
    """
    result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise.default(
        gradient, weight, None, padding, left, stride, *_DENSE, "none", [], ""
    )
    return result
