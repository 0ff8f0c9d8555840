"""Losses and outputs of many images, computed for a few at a time, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fedmend.detection.search.features import Outputs

Loss = Callable[[Tensor, slice], Tensor]
"""From some of the images, (R, C, H, W), and which rows they are, to one value for each of them, (R,)."""


def in_chunks(loss: Loss, images: Tensor, at_once: int) -> Tensor:
    """The loss of each image, (N,), and its gradient at ``images``, for ``at_once`` images at a time.

    The gradient of a chunk is computed at once, and what autograd kept for it is released, before the next one begins.
    Where one chunk is enough, this is ``loss(images, slice(None))``.

    Args:
        loss: an image's value must depend on that image alone.
        images: float (N, C, H, W).
        at_once: at least 1.
    """
    if len(images) <= at_once:
        return loss(images, slice(None))
    if not (torch.is_grad_enabled() and images.requires_grad):
        return torch.cat([loss(images[rows], rows) for rows in _rows(len(images), at_once)])
    losses, gradient = list[Tensor](), torch.empty_like(images)
    for rows in _rows(len(images), at_once):
        leaf = images[rows].detach().requires_grad_()
        part = loss(leaf, rows)
        (gradient[rows],) = torch.autograd.grad(part.sum(), leaf)
        losses.append(part.detach())
    result: Tensor = _Known.apply(images, torch.cat(losses), gradient)  # type: ignore[no-untyped-call]
    return result


def in_parts(model: Callable[[Tensor], Outputs], at_once: int) -> Callable[[Tensor], Outputs]:
    """The model, which ``at_once`` images go through at a time, forward and backward.

    For a gradient each part is computed once more, when its gradient is. Where one part is enough, this is the model.

    Args:
        model: with frozen weights; an image's outputs must depend on that image alone.
        at_once: at least 1.
    """

    def run(images: Tensor) -> Outputs:
        if len(images) <= at_once:
            return model(images)
        if torch.is_grad_enabled() and images.requires_grad:
            outputs: Outputs = _InParts.apply(images, model, at_once)  # type: ignore[no-untyped-call]
            return outputs
        return _outputs_of(model, images, at_once)

    return run


def _outputs_of(model: Callable[[Tensor], Outputs], images: Tensor, at_once: int) -> Outputs:
    features, logits = zip(*(model(images[rows]) for rows in _rows(len(images), at_once)), strict=True)
    return torch.cat(features), torch.cat(logits)


def _rows(count: int, at_once: int) -> list[slice]:
    return [slice(start, start + at_once) for start in range(0, count, at_once)]


class _Known(torch.autograd.Function):
    """Losses (N,) whose gradient at the images is known already."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, losses: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (known,) = ctx.saved_tensors
        return known * gradients[0].view(-1, 1, 1, 1), None, None


class _InParts(torch.autograd.Function):
    """A model's features and logits, whose gradient is computed from the images anew."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, model: Callable[[Tensor], Outputs], at_once: int) -> Outputs:
        ctx.save_for_backward(images)
        ctx.model, ctx.at_once = model, at_once
        return _outputs_of(model, images, at_once)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (images,) = ctx.saved_tensors
        gradient = torch.empty_like(images)
        for rows in _rows(len(images), ctx.at_once):
            leaf = images[rows].detach().requires_grad_()
            with torch.enable_grad():
                outputs = ctx.model(leaf)
            (gradient[rows],) = torch.autograd.grad(outputs, leaf, [each[rows] for each in gradients])
        return gradient, None, None
