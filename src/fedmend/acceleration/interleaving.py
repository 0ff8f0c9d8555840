"""The gradient of a strided convolution at images of few channels, such as pixels, by a convolution of stride 1.

oneDNN computes eight channels at once, so a gradient at one or three channels costs as much as at eight. But with a
stride of s, every s-th pixel meets the same weights. One convolution of stride 1 computes all s times s kinds of
pixels, each kind as channels of its own; interleaved, they are the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fedmend.acceleration.onednn import Geometry, Pair, convolve, prepack


class Interleaved:
    """A convolution's gradient at its images (N, C, H, W) from that at its output.

    Args:
        weight: the convolution's, (O, C, h, w).
        geometry: the convolution's.
        shape: the shape of a gradient at the output.
        size: height and width of the images.
    """

    def __init__(self, weight: Tensor, geometry: Geometry, shape: Sequence[int], size: Sequence[int]) -> None:
        self.stride = geometry.stride
        sides = zip(weight.shape[2:], geometry.stride, geometry.padding, strict=True)
        rows, columns = (_meetings(*each) for each in sides)
        self.first = [min(offset for _, _, offset in each) for each in (rows, columns)]
        last = [max(offset for _, _, offset in each) for each in (rows, columns)]
        self.reach = [end - start for start, end in zip(self.first, last, strict=True)]
        outputs, channels = weight.shape[:2]
        kinds = weight.new_zeros(channels, *self.stride, outputs, *(each + 1 for each in self.reach))
        for y, up, row in rows:
            for x, left, column in columns:
                kinds[:, y, x, :, row - self.first[0], column - self.first[1]] = weight[:, :, up, left].T
        self.weight = prepack(kinds.flatten(0, 2), self._geometry(shape, size), shape)

    def __call__(self, gradient: Tensor, size: Sequence[int]) -> Tensor:
        """Gradients (N, O, H', W') to gradients (N, C, H, W) at images of this size."""
        geometry, blocks = self._geometry(gradient.shape, size), self._blocks(size)
        kinds = convolve(gradient, self.weight, None, geometry).permute(0, 2, 3, 1)
        top, left = (pad + first for pad, first in zip(geometry.padding, self.first, strict=True))
        kinds = kinds[:, top : top + blocks[0], left : left + blocks[1]]
        channels = kinds.shape[3] // (self.stride[0] * self.stride[1])
        pixels = kinds.reshape(*kinds.shape[:3], channels, *self.stride).permute(0, 1, 4, 2, 5, 3)
        pixels = pixels.reshape(len(kinds), blocks[0] * self.stride[0], blocks[1] * self.stride[1], channels)
        return pixels[:, : size[0], : size[1]].permute(0, 3, 1, 2)

    def _blocks(self, size: Sequence[int]) -> Pair:
        """How many blocks, of one pixel of every kind each, cover an image."""
        return [-(-side // stride) for side, stride in zip(size, self.stride, strict=True)]

    def _geometry(self, shape: Sequence[int], size: Sequence[int]) -> Geometry:
        """Padded so that every block has its outputs; superfluous outputs are cut off afterwards."""
        sides = zip(self.first, self.reach, self._blocks(size), shape[2:], strict=True)
        return Geometry(
            [1, 1], [max(0, -first, block + first + reach - side) for first, reach, block, side in sides]
        )


def _meetings(kernel: int, stride: int, padding: int) -> list[tuple[int, int, int]]:
    """Per kind of pixel: the weights that it meets, and in which output, counted from that of its block."""
    return [
        (kind, tap, (kind + padding - tap) // stride)
        for kind in range(stride)
        for tap in range(kernel)
        if (kind + padding - tap) % stride == 0
    ]
