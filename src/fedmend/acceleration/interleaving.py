"""A strided convolution's gradient at images of few channels, such as its pixels, by a convolution of stride 1.

oneDNN computes eight channels at once, so a gradient at one or three channels is as dear as one at eight. But with a
stride of s, every s-th pixel meets the same weights: one convolution of stride 1 gives all s times s kinds of pixels,
each as channels of its own, and they are put between one another.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fedmend.acceleration.onednn import Pair, convolve, ordered


class Interleaved:
    """The gradient at the images (N, C, H, W), whose size is given, from that at what they were convolved to.

    Args:
        weight: the convolution's, (O, C, h, w).
        stride, padding: the convolution's.
        shape: of a gradient.
        size: height and width of its images.
    """

    def __init__(
        self, weight: Tensor, stride: Pair, padding: Pair, shape: Sequence[int], size: Sequence[int]
    ) -> None:
        self.stride = stride
        rows, columns = (_meetings(*each) for each in zip(weight.shape[2:], stride, padding, strict=True))
        self.first = [min(offset for _, _, offset in each) for each in (rows, columns)]
        last = [max(offset for _, _, offset in each) for each in (rows, columns)]
        self.reach = [end - start for start, end in zip(self.first, last, strict=True)]
        outputs, channels = weight.shape[:2]
        kinds = weight.new_zeros(channels, *stride, outputs, *(each + 1 for each in self.reach))
        for y, up, row in rows:
            for x, left, column in columns:
                kinds[:, y, x, :, row - self.first[0], column - self.first[1]] = weight[:, :, up, left].T
        self.weight = ordered(kinds.flatten(0, 2), self._padding(shape, size), [1, 1], shape)

    def __call__(self, gradient: Tensor, size: Sequence[int]) -> Tensor:
        """See the class."""
        padding, blocks = self._padding(gradient.shape, size), self._blocks(size)
        kinds = convolve(gradient, self.weight, None, padding, [1, 1]).permute(0, 2, 3, 1)
        top, left = (pad + first for pad, first in zip(padding, self.first, strict=True))
        kinds = kinds[:, top : top + blocks[0], left : left + blocks[1]]
        channels = kinds.shape[3] // (self.stride[0] * self.stride[1])
        pixels = kinds.reshape(*kinds.shape[:3], channels, *self.stride).permute(0, 1, 4, 2, 5, 3)
        pixels = pixels.reshape(len(kinds), blocks[0] * self.stride[0], blocks[1] * self.stride[1], channels)
        return pixels[:, : size[0], : size[1]].permute(0, 3, 1, 2)

    def _blocks(self, size: Sequence[int]) -> Pair:
        """Of how many blocks of pixels, each with one of every kind, an image is."""
        return [-(-side // stride) for side, stride in zip(size, self.stride, strict=True)]

    def _padding(self, shape: Sequence[int], size: Sequence[int]) -> Pair:
        """Enough that every block of pixels has its outputs; what they don't meet at the other end is cut off."""
        sides = zip(self.first, self.reach, self._blocks(size), shape[2:], strict=True)
        return [max(0, -first, block + first + reach - side) for first, reach, block, side in sides]


def _meetings(kernel: int, stride: int, padding: int) -> list[tuple[int, int, int]]:
    """For each kind of pixel which weights it meets, and in which output, counted from its block's own."""
    return [
        (kind, tap, (kind + padding - tap) // stride)
        for kind in range(stride)
        for tap in range(kernel)
        if (kind + padding - tap) % stride == 0
    ]
