"""Finds triggers of a few black or white pixels on clean images, fast enough for every client.

Such a trigger shows in the gradient of the logits, averaged over a class's images. If the gradient is flat until a
pixel is bright, switching single pixels reveals it. No optimisation or reference is needed; triggers with more pixels,
other colours or a faint pattern are what :mod:`.optimised_triggers` finds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.checked_settings import Count, settings
from fedmend.errors import ConfigError, DataError
from fedmend.inference import batch_size_for, evaluating, pixels_for, predict
from fedmend.seeds import generator
from fedmend.triggers import Addition, Patch, Trigger

SWITCHED_IMAGES = 8
MOST_SWITCHED = 1024


@dataclass(frozen=True, eq=False)
class FoundTrigger:
    """A trigger that sends a fraction ``rate`` of the source class's images to the target class (see ``moved``)."""

    trigger: Patch | Addition
    source_class: int
    target_class: int
    rate: float


@settings
class FewPixels:
    """Settings of :func:`few_pixel_triggers`.

    Attributes:
        pixels: pixels per trigger.
        images_per_class: most images per class, chosen at random.
        most: most triggers to return.
    """

    pixels: Count = 8
    images_per_class: Count = 64
    most: Count = 3


def few_pixel_triggers(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    search: FewPixels = FewPixels(),  # noqa: B008 - frozen
    seed: int = 0,
) -> list[FoundTrigger]:
    """Find, for each pair of classes, the pixels that gain most as black or white; return the best over all pairs.

    A pixel's gain is the mean increase, over images of the source class, of the target's logit minus the source's. One
    trigger uses its first-order estimate, with each channel at whichever extreme gains more. Another uses the gain
    measured on eight of the images, with all channels white or black, at up to 1,024 places on a grid. The one with
    the higher rate is kept.

    Args:
        model: (N, C, H, W) in [0, 1] to logits; left as found.
        images: uint8 or float in [0, 1], (N, C, H, W).
        labels: int64 (N,). Classes without images are skipped.
        search: the settings.
        seed: of the choice of images.

    Returns:
        At most ``search.most`` triggers with hard masks, the highest rate first.

    Raises:
        DataError: there are no images, or labels don't match them or the model.
        ConfigError: a trigger would have more pixels than an image.
    """
    require_labelled(model, images, labels)
    places = images.shape[2] * images.shape[3]
    if search.pixels > places:
        raise ConfigError(f"pixels must be 1 to {places}, the image's size; got {search.pixels}")
    found: list[FoundTrigger] = []
    random = generator(seed, "few pixels")
    with evaluating(model), torch.enable_grad():
        for source in labels.unique().tolist():
            own = (labels == source).nonzero().flatten()
            own = own[torch.randperm(len(own), generator=random)[: search.images_per_class].to(own.device)]
            found += _of_class(model, pixels_for(model, images[own]), source, search.pixels)
    return sorted(found, key=lambda each: -each.rate)[: search.most]


def require_labelled(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Check what a search for triggers is given; returns the model's number of classes.

    Raises:
        DataError: there are no images, or labels don't match them or the model.
    """
    if images.ndim != 4 or len(images) == 0 or labels.shape != (len(images),):
        raise DataError(
            f"a trigger search needs images (N, C, H, W) with labels (N,), N at least 1; got "
            f"{tuple(images.shape)} and {tuple(labels.shape)}"
        )
    with evaluating(model), torch.no_grad():
        classes = int(model(pixels_for(model, images[:1])).shape[1])
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < classes:
            raise DataError(f"labels must be 0 to {classes - 1}, the model's classes; got {label}")
    return classes


def _of_class(model: nn.Module, clean: Tensor, source: int, pixels: int) -> list[FoundTrigger]:
    clean = clean.detach().requires_grad_(True)
    logits = model(clean.clone())  # a model may work in place
    switched = _switched(model, clean.detach()[:SWITCHED_IMAGES], source)
    found = []
    for target in range(logits.shape[1]):
        if target == source:
            continue
        (gradient,) = torch.autograd.grad(
            (logits[:, target] - logits[:, source]).sum(), clean, retain_graph=True
        )
        whiter, blacker = (gradient * (1 - clean)).mean(0), (-gradient * clean).mean(0)
        white, black = switched[0, :, :, target], switched[1, :, :, target]
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
    """The pixels with the highest gain, (H, W), in the given colours, bool (C, H, W)."""
    mask = torch.zeros_like(gain).flatten()
    mask[gain.flatten().topk(pixels).indices] = 1
    return Patch(mask.view(1, *gain.shape).detach(), white.to(gain.dtype).detach())


@torch.no_grad()
def _switched(model: nn.Module, clean: Tensor, source: int) -> Tensor:
    """Each class's gain over the source's logit when a pixel turns white or black, (2, H, W, classes)."""
    count, _, height, width = clean.shape
    step = math.ceil(math.sqrt(height * width / MOST_SWITCHED))
    values = clean.new_tensor([1.0, 0.0])
    changed = (clean != values.view(2, 1, 1, 1, 1)).any(2)[..., ::step, ::step]
    before = model(clean.clone())
    gains = clean.new_full((2, height, width, before.shape[1]), -torch.inf)
    gains[:, ::step, ::step] = 0
    for some in changed.nonzero().split(batch_size_for(clean)):
        colour, image, row, column = some[:, 0], some[:, 1], some[:, 2] * step, some[:, 3] * step
        stamped = clean[image]
        stamped[torch.arange(len(some), device=clean.device), :, row, column] = values[colour].unsqueeze(1)
        gain = model(stamped) - before[image]
        gain = gain - gain[:, source : source + 1]
        gains.index_put_((colour, row, column), gain / count, accumulate=True)
    return gains


def moved(model: nn.Module, trigger: Trigger, images: Tensor, source: int, target: int) -> float:
    """The fraction of the source class's images, in [0, 1], that a trigger sends to the target class.

    Args:
        images: of the source class, uint8 or float in [0, 1], (N, C, H, W). Images that the model misclassifies
            without the trigger are left out.

    Returns:
        The fraction; 0 if no image remains.
    """
    right = images[(predict(model, images) == source).to(images.device)] if len(images) else images
    if len(right) == 0:
        return 0.0
    return float((predict(model, right, trigger) == target).double().mean())
