"""Masks and patterns optimised in parallel, each by its own loss on its stamped images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedmend.detection.search.adam import Adam
from fedmend.errors import ModelError
from fedmend.triggers import Patch

_NO_MASK = 1e-12

Regulariser = Callable[[Tensor, Tensor], Tensor]
"""From masks (S, 1, H, W) and patterns (S, C, H, W) to what is added to each patch's loss, (S,); differentiable."""


class Patches:
    """The masks and patterns of S patches: sigmoids of unconstrained values.

    The gradient at the values, from the gradient at the stamped images, is written out: with a small model, autograd
    would take as long as the model itself.

    Args:
        masks: unconstrained values of the masks, float (S, 1, H, W).
        patterns: those of the patterns, float (S, C, H, W).
    """

    def __init__(self, masks: Tensor, patterns: Tensor) -> None:
        self._values = torch.cat([masks, patterns], 1)
        self._adam = Adam(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @staticmethod
    def random(count: int, images: Tensor, generator: torch.Generator, offset: float) -> Patches:
        """Draw ``count`` patches for ``images`` from normal noise; ``offset`` is added to the masks' values."""
        channels, height, width = images.shape[1:]
        masks = torch.randn(count, 1, height, width, generator=generator) + offset
        patterns = torch.randn(count, channels, height, width, generator=generator)
        return Patches(masks.to(images), patterns.to(images))

    def only(self, chosen: Sequence[int]) -> Patches:
        """Some of the patches, with a new optimizer."""
        values = self._values[list(chosen)]
        return Patches(values[:, :1], values[:, 1:])

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the patches, bool (S,), and the optimizer's state for them."""
        self._values = self._values[chosen]
        self._adam.keep(self._values, chosen)

    def triggers(self, limit: float) -> list[Patch]:
        """The patches within the limit."""
        return [Patch(mask, pattern) for mask, pattern in zip(*self(limit), strict=True)]

    def __call__(self, limit: float | None = None) -> tuple[Tensor, Tensor]:
        """Masks (S, 1, H, W), scaled down where their sum exceeds the limit, and patterns (S, C, H, W)."""
        values = self._values.sigmoid()
        masks, patterns = values[:, :1], values[:, 1:]
        return masks * _scales(masks, limit), patterns

    @torch.no_grad()
    def descend(
        self,
        images: Tensor,
        loss: Callable[[Tensor], Tensor],
        lr: float,
        limit: float | None = None,
        penalty: float | Tensor = 0.0,
        regulariser: Regulariser | None = None,
    ) -> Tensor:
        """Take one step of Adam on each patch's own loss; returns the losses, (S,).

        Args:
            images: each patch's own, float (S, K, C, H, W).
            loss: from the stamped images, (S, K, C, H, W), to (S,); differentiable.
            lr: Adam's learning rate.
            limit: the largest sum of a mask, in pixels; larger masks are scaled down.
            penalty: weight of the mask's sum in its loss; (S, 1, 1, 1) for one of each patch.
            regulariser: a further term of the loss.

        Raises:
            ModelError: a loss is NaN or infinite.
        """
        values = self._values.sigmoid()
        raw, patterns = values[:, :1], values[:, 1:]
        scales = _scales(raw, limit)
        masks, apart = raw * scales, patterns[:, None] - images
        stamp = torch.addcmul(images, masks[:, None], apart).requires_grad_()
        with torch.enable_grad():
            losses = loss(stamp)
            if not bool(losses.isfinite().all()):
                raise ModelError(
                    "the search's loss became NaN or infinite; check that the model returns finite logits"
                )
            (at_stamp,) = torch.autograd.grad(losses.sum(), stamp)
        at_masks = (at_stamp * apart).sum((1, 2))[:, None] + penalty
        if limit is not None:
            shared = _sums(at_masks * raw) / _sums(raw).clamp_min(_NO_MASK)
            at_masks = scales * (at_masks - shared * (scales < 1))
        gradient = torch.cat([at_masks, at_stamp.sum(1) * masks], 1)
        losses = losses.detach() + (penalty * _sums(masks)).flatten()
        if regulariser is not None:
            added, at_added = _differentiated(regulariser, masks, patterns)
            losses, gradient = losses + added, gradient + at_added
        self._adam.step(gradient * values * (1 - values), lr)
        return losses


def _differentiated(regulariser: Regulariser, masks: Tensor, patterns: Tensor) -> tuple[Tensor, Tensor]:
    """The regulariser's values, (S,), and its gradient at masks and patterns, (S, 1 + C, H, W)."""
    leaves = masks.clone().requires_grad_(), patterns.clone().requires_grad_()
    with torch.enable_grad():
        added = regulariser(*leaves)
        gradients = torch.autograd.grad(added.sum(), leaves)
    return added.detach(), torch.cat(gradients, 1)


def _scales(masks: Tensor, limit: float | None) -> Tensor:
    return (
        (limit / _sums(masks).clamp_min(_NO_MASK)).clamp_max(1) if limit is not None else masks.new_ones(())
    )


def _sums(masks: Tensor) -> Tensor:
    return masks.sum((1, 2, 3), keepdim=True)
