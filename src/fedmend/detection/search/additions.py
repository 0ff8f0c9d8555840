"""Additive perturbations optimised in parallel, each by its own loss on its perturbed images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedmend.errors import ModelError
from fedmend.triggers import Addition

_MOMENTUM, _START, _TINY = 0.7, 0.1, 1e-20


class Additions:
    """S perturbations of the whole image under a limit on their root mean square.

    Each step goes a fraction of the limit against the momentum of the normalised gradient, then back into the limit
    (a projected gradient method, as for universal adversarial perturbations).

    Args:
        deltas: float (S, C, H, W).
    """

    def __init__(self, deltas: Tensor) -> None:
        self._deltas, self._momentum = deltas, torch.zeros_like(deltas)

    def __len__(self) -> int:
        return len(self._deltas)

    @staticmethod
    def random(count: int, images: Tensor, generator: torch.Generator, limit: float) -> Additions:
        """Draw ``count`` perturbations for ``images`` from normal noise of a tenth of the limit."""
        noise = torch.randn(count, *images.shape[1:], generator=generator)
        return Additions((noise * _START * limit).to(images))

    def only(self, chosen: Sequence[int]) -> Additions:
        """Some of the perturbations."""
        return Additions(self._deltas[list(chosen)].clone())

    def triggers(self, limit: float) -> list[Addition]:
        """The perturbations within the limit."""
        return [Addition(delta.clamp(-1, 1)) for delta in _within(self._deltas, limit)]

    @torch.no_grad()
    def descend(self, images: Tensor, loss: Callable[[Tensor], Tensor], lr: float, limit: float) -> Tensor:
        """Take one step on each perturbation's own loss; returns the losses, (S,).

        Args:
            images: each perturbation's own, float (S, K, C, H, W).
            loss: from the perturbed images, (S, K, C, H, W), to (S,); differentiable.
            lr: the step's length, as a fraction of the limit.
            limit: the largest root mean square of a perturbation.

        Raises:
            ModelError: a loss is NaN or infinite.
        """
        self._deltas = _within(self._deltas, limit)
        perturbed = (images + self._deltas[:, None]).clamp(0, 1).requires_grad_()
        with torch.enable_grad():
            losses = loss(perturbed)
            if not bool(losses.isfinite().all()):
                raise ModelError(
                    "the search's loss became NaN or infinite; check that the model returns finite logits"
                )
            (gradient,) = torch.autograd.grad(losses.sum(), perturbed)
        gradient = gradient.sum(1)
        self._momentum = _MOMENTUM * self._momentum + gradient / _size(gradient)
        step = self._momentum / _size(self._momentum)
        self._deltas = _within(self._deltas - lr * limit * step, limit)
        return losses.detach()


def _size(values: Tensor) -> Tensor:
    """The root mean square of each, (S, 1, 1, 1)."""
    return values.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(_TINY)


def _within(deltas: Tensor, limit: float) -> Tensor:
    return deltas * (limit / _size(deltas)).clamp_max(1)
