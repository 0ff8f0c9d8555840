"""Whether a model has a gradient that a search can follow."""

from __future__ import annotations

import torch
from torch.nn.functional import log_softmax

from fedmend.detection.search.chunking import in_chunks
from fedmend.detection.search.direction import Direction, Logits
from fedmend.detection.search.patches import Patches
from fedmend.errors import ModelError

_STEPS, _LR, _COVERING = 20, 0.5, 4.0
_REACHED = 0.5


def why_blind(direction: Direction, rng: torch.Generator, count: int = 4) -> str | None:
    """Why a gradient search in ``direction.fires`` would find nothing whatever was planted; None if it can search.

    The search is tried where it can't fail: with patches over nearly the whole image, all from one random pattern,
    for three of the classes that the images have. A class is reached if half of the images go there that the pattern
    leaves at another one. Where most classes aren't reached, the model has no gradient, or a misleading one. With two
    classes a misleading one often passes.

    Args:
        direction: the models and the images.
        rng: on the CPU.
        count: images to try it on.
    """
    images = direction.images[torch.randperm(len(direction.images), generator=rng)[:count]]
    reason = _without_gradient(direction.fires, images[: direction.at_once])
    if reason is not None:
        return reason
    predicted = direction.before.unique()
    targets = predicted[torch.randperm(len(predicted), generator=rng)[:3].to(predicted.device)]
    patches = Patches.random(1, images, rng, _COVERING).only([0] * len(targets))
    wanted = targets.repeat_interleave(len(images))

    def predictions() -> torch.Tensor:
        stamped = torch.cat([patch.apply(images) for patch in patches.triggers(images[0, 0].numel())])
        return direction.fires(stamped).argmax(1)

    def of_images(stamped: torch.Tensor, rows: slice) -> torch.Tensor:
        return -log_softmax(direction.fires(stamped), -1).gather(1, wanted[rows, None])[:, 0]

    def loss(stamped: torch.Tensor) -> torch.Tensor:
        losses = in_chunks(of_images, stamped.flatten(0, 1), direction.at_once)
        return losses.view(len(targets), -1).mean(1)

    with torch.no_grad():
        elsewhere = (predictions() != wanted).view(len(targets), -1)
    reached = torch.zeros_like(targets, dtype=torch.bool)
    for _ in range(_STEPS):
        patches.descend(images.expand(len(targets), *images.shape), loss, _LR)
        with torch.no_grad():
            hits = (predictions() == wanted).view(len(targets), -1) & elsewhere
        reached |= hits.any(1) & (hits.sum(1) >= _REACHED * elsewhere.sum(1))
        if 2 * int(reached.sum()) > int(elsewhere.any(1).sum()):
            return None
    return "patterns over the whole image, found by its gradient, don't reach most of the classes that were tried"


def _without_gradient(model: Logits, images: torch.Tensor) -> str | None:
    images = images.clone().requires_grad_()
    with torch.enable_grad():
        try:
            (gradient,) = torch.autograd.grad(log_softmax(model(images), -1).sum(), images)
        except (RuntimeError, ModelError):
            return "its outputs have no gradient at the pixels"
    if not bool(gradient.isfinite().all()):
        return "its gradient at the pixels is NaN or infinite"
    if not bool((gradient != 0).any()):
        return "its gradient at the pixels is zero everywhere"
    return None
