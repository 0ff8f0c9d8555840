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

    The search is tried where it can't fail: with patches that cover nearly the whole image, for three classes. A model
    that no such image sends to any of them has no gradient, or a misleading one.

    Args:
        direction: the models and the images.
        rng: on the CPU.
        count: images to try it on.
    """
    images = direction.images[torch.randperm(len(direction.images), generator=rng)[:count]]
    reason = _without_gradient(direction.fires, images[: direction.at_once])
    if reason is not None:
        return reason
    targets = torch.randperm(direction.classes, generator=rng)[:3].to(images.device)
    patches = Patches.random(len(targets), images, rng, _COVERING)
    wanted = targets.repeat_interleave(len(images))

    def of_images(stamped: torch.Tensor, rows: slice) -> torch.Tensor:
        return -log_softmax(direction.fires(stamped), -1).gather(1, wanted[rows, None])[:, 0]

    def loss(stamped: torch.Tensor) -> torch.Tensor:
        losses = in_chunks(of_images, stamped.flatten(0, 1), direction.at_once)
        return losses.view(len(targets), -1).mean(1)

    for _ in range(_STEPS):
        patches.descend(images.expand(len(targets), *images.shape), loss, _LR)
        with torch.no_grad():
            stamped = torch.cat([patch.apply(images) for patch in patches.triggers(images[0, 0].numel())])
            hits = direction.fires(stamped).argmax(1) == wanted
        if float(hits.view(len(targets), -1).float().mean(1).max()) >= _REACHED:
            return None
    return "no pattern over the whole image, found by its gradient, sends images to another class"


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
