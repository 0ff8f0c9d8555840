"""Triggers of a few black or white pixels, found on clean images: quick enough for every client.

A trigger that does its work by a few pixels shows in the gradient of the logits, averaged over a class's images, or,
where the gradient is flat until a pixel is bright, by turning one pixel after the other. No optimisation is run and no
reference model is needed; in return, a trigger that only works by a large or faint pattern is missed (see
``fedmend.detection.search.budget_search`` for those).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.inference import BATCH_SIZE, evaluating, pixels_for, predict
from fedmend.seeds import generator
from fedmend.triggers import Patch

TURNED_IMAGES = 8
MOST_TURNED = 1024


@dataclass(frozen=True, eq=False)
class FoundTrigger:
    """A trigger that moves a share of the images of ``source_class`` to ``target_class``: ``rate`` (see ``moved``)."""

    trigger: Patch
    source_class: int
    target_class: int
    rate: float


def few_pixel_triggers(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    pixels: int = 8,
    images_per_class: int = 64,
    most: int = 3,
    seed: int = 0,
) -> list[FoundTrigger]:
    """For each pair of classes the pixels that gain most by turning black or white; of all these, the best few.

    The gain of a pixel is what the target's logit gains on the source's in the mean over images of the source: to
    first order, each channel turning to whichever end gains more; and as measured on a few of the images, all channels
    turning white or black, at 1,024 places at most, on a grid. Of the two triggers the one with the higher rate
    counts.

    Args:
        model: (N, C, H, W) in [0, 1] to logits; left as found.
        images: uint8 or float in [0, 1], (N, C, H, W). labels: int64 (N,). Classes without images are passed over.
        pixels: how many a trigger has. images_per_class: at most so many are looked at, a random choice.
        most: how many triggers to return.

    Returns:
        At most ``most``, the highest rate first. Masks are hard.

    Raises:
        DataError: there are no images, or labels don't match them or the model. ConfigError: a setting is out of range.
    """
    if images.ndim != 4 or len(images) == 0 or labels.shape != (len(images),):
        raise DataError(
            f"a search for triggers needs images (N, C, H, W) with labels (N,), N at least 1; got "
            f"{tuple(images.shape)} and {tuple(labels.shape)}"
        )
    places = images.shape[2] * images.shape[3]
    if not 0 < pixels <= places or images_per_class < 1 or most < 1:
        raise ConfigError(
            f"pixels must be 1 to {places}, images_per_class and most 1 or more; "
            f"got {pixels}, {images_per_class}, {most}"
        )
    found: list[FoundTrigger] = []
    random = generator(seed, "few pixels")
    with evaluating(model), torch.enable_grad():
        for source in labels.unique().tolist():
            own = (labels == source).nonzero().flatten()
            own = own[torch.randperm(len(own), generator=random)[:images_per_class].to(own.device)]
            found += _of_class(model, pixels_for(model, images[own]), source, pixels)
    return sorted(found, key=lambda each: -each.rate)[:most]


def _of_class(model: nn.Module, clean: Tensor, source: int, pixels: int) -> list[FoundTrigger]:
    clean = clean.detach().requires_grad_(True)
    logits = model(clean)
    if not 0 <= source < logits.shape[1]:
        raise DataError(f"labels must be 0 to {logits.shape[1] - 1}, the model's classes; got {source}")
    turned = _turned(model, clean.detach()[:TURNED_IMAGES], source)
    found = []
    for target in range(logits.shape[1]):
        if target == source:
            continue
        (gradient,) = torch.autograd.grad(
            (logits[:, target] - logits[:, source]).sum(), clean, retain_graph=True
        )
        whiter, blacker = (gradient * (1 - clean)).mean(0), (-gradient * clean).mean(0)
        white, black = turned[0, :, :, target], turned[1, :, :, target]
        both = (
            _strongest(torch.maximum(whiter, blacker).sum(0), whiter >= blacker, pixels),
            _strongest(torch.maximum(white, black), (white >= black).expand(clean.shape[1:]), pixels),
        )
        rated = [
            FoundTrigger(each, source, target, moved(model, each, clean.detach(), source, target))
            for each in both
        ]
        found.append(max(rated, key=lambda each: each.rate))
    return found


def _strongest(gain: Tensor, white: Tensor, pixels: int) -> Patch:
    """The pixels with the highest gain, (H, W), in these colours, bool (C, H, W)."""
    mask = torch.zeros_like(gain).flatten()
    mask[gain.flatten().topk(pixels).indices] = 1
    return Patch(mask.view(1, *gain.shape).detach(), white.to(gain.dtype).detach())


@torch.no_grad()
def _turned(model: nn.Module, clean: Tensor, source: int) -> Tensor:
    """What each class's logit gains on the source's when a pixel turns white or black, (2, H, W, classes)."""
    count, _, height, width = clean.shape
    step = math.ceil(math.sqrt(height * width / MOST_TURNED))
    values = clean.new_tensor([1.0, 0.0])
    changed = (clean != values.view(2, 1, 1, 1, 1)).any(2)[..., ::step, ::step]
    before = model(clean)
    gains = clean.new_full((2, height, width, before.shape[1]), -torch.inf)
    gains[:, ::step, ::step] = 0
    for some in changed.nonzero().split(BATCH_SIZE):
        colour, image, row, column = some[:, 0], some[:, 1], some[:, 2] * step, some[:, 3] * step
        stamped = clean[image]
        stamped[torch.arange(len(some), device=clean.device), :, row, column] = values[colour].unsqueeze(1)
        gain = model(stamped) - before[image]
        gain = gain - gain[:, source : source + 1]
        gains.index_put_((colour, row, column), gain / count, accumulate=True)
    return gains


def moved(model: nn.Module, trigger: Patch, images: Tensor, source: int, target: int) -> float:
    """Of the images that the model takes for the source class, the share that it takes for the target when stamped.

    Args:
        images: of the source class, uint8 or float in [0, 1], (N, C, H, W). Mistakes without any trigger don't count.

    Returns:
        A share in [0, 1]; 0 where there are no such images.
    """
    right = images[(predict(model, images) == source).to(images.device)] if len(images) else images
    if len(right) == 0:
        return 0.0
    return float((predict(model, right, trigger) == target).double().mean())
