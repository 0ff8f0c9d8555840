"""Convolutions by oneDNN with pre-packed weights, through torch's private operators.

On a CPU torch convolves with oneDNN, which needs the weights in blocks, with different layouts for the forward pass
and for the gradient at the images. It reorders plain weights in every pass; here that is done once. All convolutions
are in float32 or bfloat16, without groups or dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Pair: TypeAlias = list[int]
"""Vertical and horizontal."""

_DENSE = ([1, 1], 1)  # no dilation, no groups


@dataclass(frozen=True)
class Geometry:
    """A convolution's stride and padding."""

    stride: Pair
    padding: Pair


def prepack(weight: Tensor, geometry: Geometry, shape: Sequence[int]) -> Tensor:
    """Weights (O, C, h, w) pre-packed for :func:`convolve` on images of this shape."""
    result: Tensor = torch.ops.mkldnn._reorder_convolution_weight.default(
        weight, geometry.padding, geometry.stride, *_DENSE, list(shape)
    )
    return result


def convolve(
    images: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, slope: float | None = None
) -> Tensor:
    """Convolve with weights from :func:`prepack`; a slope adds ReLU (0) or LeakyReLU.

    oneDNN's own ReLU turns NaN into 0, so torch's is used.
    """
    kind, scalars = ("leaky_relu", [slope]) if slope else ("none", [])
    result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        images, weight, bias, geometry.padding, geometry.stride, *_DENSE, kind, scalars, ""
    )
    return result if slope is None or slope else result.relu_()


def prepack_transposed(weight: Tensor, geometry: Geometry, left: Pair, shape: Sequence[int]) -> Tensor:
    """Weights (O, C, h, w) pre-packed for :func:`convolve_transposed` on gradients of this shape."""
    result: Tensor = torch.ops.mkldnn._reorder_convolution_transpose_weight.default(
        weight, geometry.padding, left, geometry.stride, *_DENSE, list(shape)
    )
    return result


def convolve_transposed(gradient: Tensor, weight: Tensor, geometry: Geometry, left: Pair) -> Tensor:
    """The gradient at a convolution's images, from its output's, with weights from :func:`prepack_transposed`.

    ``left`` is the number of pixel rows and columns left over after the convolution's last step.
    """
    result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise.default(
        gradient, weight, None, geometry.padding, left, geometry.stride, *_DENSE, "none", [], ""
    )
    return result
