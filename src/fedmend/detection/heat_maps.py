"""Heat maps of what makes a model predict a class, and features of them (NeuronInspect, Section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedmend.detection.search.memory import images_at_once
from fedmend.errors import ModelError
from fedmend.progress import Progress, silent


def maps_of_classes(
    model: Callable[[Tensor], Tensor], pixels: Tensor, classes: int, memory: int, progress: Progress = silent
) -> Tensor:
    """How strongly each pixel moves the logit of each class: the gradient's absolute value, the largest channel's.

    Each map is divided by its largest value, so that the logits' scale doesn't matter.

    Args:
        model: pixels (N, C, H, W) to logits, with frozen weights.
        pixels: clean images, in [0, 1].
        classes: the number of logits.
        memory: bytes that a gradient may take.
        progress: called as ``progress("heat maps", done, total)``.

    Returns:
        (classes, N, H, W), in [0, 1].

    Raises:
        ConfigError: not even one image fits into the memory.
        ModelError: a gradient is NaN or infinite.
    """
    at_once, count = images_at_once([model], pixels, memory), len(pixels)
    rows = torch.arange(classes * count, device=pixels.device)  # class by class, each with every image
    parts = []
    for part in rows.split(at_once):
        images = pixels[part % count].requires_grad_()
        with torch.enable_grad():
            logits = model(images.clone())
        own = logits.gather(1, torch.div(part, count, rounding_mode="floor")[:, None]).sum()
        (gradient,) = torch.autograd.grad(own, images)
        parts.append(gradient.abs().amax(1))
        progress("heat maps", int(part[-1]) + 1, len(rows))
    maps = torch.cat(parts)
    if not bool(maps.isfinite().all()):
        raise ModelError("the suspect's gradients are NaN or infinite on clean images; is the file damaged?")
    largest = maps.amax((1, 2), keepdim=True).clamp_min(1e-30)
    scaled: Tensor = (maps / largest).view(classes, count, *maps.shape[1:])
    return scaled


def sparseness(maps: Tensor) -> Tensor:
    """The mean of each map, its L1 norm per pixel: small if few pixels matter.

    Args:
        maps: (..., H, W).

    Returns:
        (...).
    """
    return maps.mean((-2, -1))


def roughness(maps: Tensor) -> Tensor:
    """The mean absolute Laplacian of each map, with the edge's pixels repeated beyond it: small if it is smooth.

    Args:
        maps: (..., H, W).

    Returns:
        (...).
    """
    down, right = maps.diff(dim=-2), maps.diff(dim=-1)
    laplacian = torch.zeros_like(maps)
    laplacian[..., :-1, :] += down
    laplacian[..., 1:, :] -= down
    laplacian[..., :, :-1] += right
    laplacian[..., :, 1:] -= right
    return laplacian.abs().mean((-2, -1))


def inconstancy(maps: Tensor) -> Tensor:
    """On which fraction of the pixels the important ones differ between two images: small if they stay the same.

    A pixel is important if its value is above its map's mean. Over all pairs of different images.

    Args:
        maps: (classes, N, H, W), N at least 2.

    Returns:
        (classes,).
    """
    important = maps > maps.mean((-2, -1), keepdim=True)
    count = maps.shape[1]
    times = important.sum(1).to(maps.dtype)  # (classes, H, W): in how many images
    return (2 * times * (count - times) / (count * (count - 1))).mean((-2, -1))
