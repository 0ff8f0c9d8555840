"""TABOR's regularisers of a trigger and its metric of a trigger's quality: pure functions of S triggers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import NonNegative, settings
from fedmend.detection.lone_suspect import LoneSuspect

_VISIBLE = 0.1


@settings
class TaborWeights:
    """Weights of the regularisers.

    The paper adjusts them during the search. These are the defaults of two public implementations, but for
    ``blocking``, which is 0 there and has the weight of ``overlaying`` here. In one of them, pixels are 0 to 255, so
    that its two terms of the pattern weigh up to 65,025 times more; here, as in the other, they are 0 to 1.

    Attributes:
        mask_size: of R1 for the mask.
        pattern_size: of R1 for the pattern outside of the mask.
        mask_scatter: of R2 for the mask.
        pattern_scatter: of R2 for the pattern outside of the mask.
        blocking: of R3.
        overlaying: of R4.
    """

    mask_size: NonNegative = 1e-6
    pattern_size: NonNegative = 1e-5
    mask_scatter: NonNegative = 1e-7
    pattern_scatter: NonNegative = 1e-8
    blocking: NonNegative = 1e-2
    overlaying: NonNegative = 1e-2


def elastic(values: Tensor) -> Tensor:
    """The elastic net's norm, L1 plus squared L2, of each of (S, ...): (S,). It is R1 of a mask or a pattern."""
    flat = values.flatten(1)
    return flat.abs().sum(1) + flat.square().sum(1)


def scatter(values: Tensor) -> Tensor:
    """The squared differences of neighbouring pixels, summed, of each of (S, C, H, W): (S,). It is R2."""
    down = (values[:, :, 1:] - values[:, :, :-1]).square().sum((1, 2, 3))
    across = (values[..., 1:] - values[..., :-1]).square().sum((1, 2, 3))
    return down + across


def large_and_scattered(masks: Tensor, patterns: Tensor, weights: TaborWeights) -> Tensor:
    """R1 and R2, weighted, of masks (S, 1, H, W) and patterns (S, C, H, W): (S,).

    Both are of the mask and of the pattern where the mask leaves it out, ``(1 - m) * pattern``.
    """
    outside = (1 - masks) * patterns
    size = weights.mask_size * elastic(masks) + weights.pattern_size * elastic(outside)
    return size + weights.mask_scatter * scatter(masks) + weights.pattern_scatter * scatter(outside)


def blocking(suspect: LoneSuspect, masks: Tensor, indices: Tensor) -> Tensor:
    """R3: cross-entropy of the true classes for images whose pixels under the mask are black, (S,).

    Without the trigger an image should be what it is: a trigger that covers the object works by hiding it.

    Args:
        suspect: the model.
        masks: (S, 1, H, W).
        indices: of each trigger's images, int64 (S, K).
    """
    cropped = suspect.images[indices] * (1 - masks[:, None])
    logits = suspect.logits(cropped.flatten(0, 1))
    losses = cross_entropy(logits, suspect.truth[indices].flatten(), reduction="none")
    return losses.view(indices.shape).mean(1)


def overlaying(suspect: LoneSuspect, masks: Tensor, patterns: Tensor, targets: Tensor) -> Tensor:
    """R4: cross-entropy of the target for the trigger alone on black, (S,).

    Args:
        suspect: the model.
        masks: (S, 1, H, W).
        patterns: (S, C, H, W).
        targets: int64 (S,).
    """
    return cross_entropy(suspect.logits(masks * patterns), targets, reduction="none")


def visible(masks: Tensor) -> Tensor:
    """Where masks (S, 1, H, W) replace at least a tenth of a pixel: 0 or 1, of the same shape.

    The paper marks each pixel in which mask times pattern isn't 0; a sigmoid never is.
    """
    return (masks >= _VISIBLE).to(masks.dtype)


def sparsity(marked: Tensor) -> Tensor:
    """The fraction of marked pixels of each of (S, 1, H, W): (S,)."""
    return marked.mean((1, 2, 3))


def roughness(marked: Tensor) -> Tensor:
    """The scatter of marked pixels, (S, 1, H, W), by half of the pairs of neighbours: (S,).

    For a square image of side d, that is the paper's d * (d - 1).
    """
    height, width = marked.shape[2:]
    return scatter(marked) / ((height * (width - 1) + width * (height - 1)) / 2)


def explained(suspect: LoneSuspect, stamped: Tensor, target: int, kept: int) -> Tensor:
    """Stamped images (N, C, H, W) of which only the pixels that speak most for the target are left; others are black.

    A pixel's say is its value times the gradient of the target's logit, summed over the channels.

    Args:
        suspect: the model.
        stamped: float (N, C, H, W).
        target: the class.
        kept: how many pixels of an image are left.
    """
    parts = []
    for part in stamped.split(suspect.at_once):
        leaf = part.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(suspect.logits(leaf)[:, target].sum(), leaf)
        say = (gradient * part).sum(1).flatten(1)
        most = say.topk(min(kept, say.shape[1]), 1).indices
        left = torch.zeros_like(say).scatter_(1, most, 1.0).view(len(part), 1, *part.shape[2:])
        parts.append(part * left)
    return torch.cat(parts)
