"""A model that gives the same answers in less time: what a search of hundreds of passes asks instead."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedmend.acceleration.folding import folded
from fedmend.acceleration.half_precision import InHalfPrecision, gains_by_halving, halved
from fedmend.acceleration.packing import packed
from fedmend.seeds import generator

_CHECKED_IMAGES = 8
_TOLERANCE = 1e-3
_HALF_TOLERANCE, _HALF_DIRECTION = 0.05, 0.9


@torch.no_grad()
def lighter(model: nn.Module, images: Tensor, *, half: bool = False) -> nn.Module:
    """The model with BatchNorm folded and convolutions packed, as far as that gives the same answers.

    Args:
        model: (N, C, H, W) to logits, in eval mode, with frozen weights. Left as it is.
        images: float (N, C, H, W); the first eight are asked.
        half: take one in half precision, where that is faster and gives nearly the same answers and gradients.
    """
    some = images[:_CHECKED_IMAGES]
    before = model(some.clone())

    def same_answers(candidate: nn.Module) -> bool:
        after = candidate(some.clone())
        return bool((after - before).abs().max() <= _TOLERANCE * before.abs().max().clamp_min(1))

    model = _changed(model, folded, same_answers)
    if half and gains_by_halving(model):
        check = _SameInHalf(model, some)
        low = _changed(model, halved, check)
        if low is not model:
            return InHalfPrecision(model, _packed(low, check))
    return _packed(model, same_answers)


class _SameInHalf:
    """Whether a candidate in half precision answers like the model.

    It is asked on half of the images, without and with noise over them, from which a search begins. Compared are the
    answers, the mean of each image's taken off, and the direction of their gradient.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        clean = images[: len(images) // 2]
        noise = torch.rand(clean.shape, generator=generator(0, "half precision")).to(clean)
        self.images = torch.cat([clean, (clean + noise) / 2])
        self.answers, self.gradient = self._asked(model)

    def __call__(self, candidate: nn.Module) -> bool:
        answers, gradient = self._asked(lambda images: candidate(images.to(torch.bfloat16)).float())
        near = (answers - self.answers).abs().max() <= _HALF_TOLERANCE * self.answers.abs().max()
        directions = cosine_similarity(gradient.flatten(), self.gradient.flatten(), dim=0)
        return bool(near) and float(directions) >= _HALF_DIRECTION

    def _asked(self, answer: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        images = self.images.clone().requires_grad_()
        with torch.enable_grad():
            logits = answer(images)
            (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), images)
        return logits.detach() - logits.detach().mean(1, keepdim=True), gradient


def _packed(model: nn.Module, check: Callable[[nn.Module], bool]) -> nn.Module:
    for change in (
        lambda model: packed(model, torch.channels_last, join=True),
        lambda model: packed(model, torch.channels_last),
        lambda model: packed(model, torch.contiguous_format),
    ):
        model = _changed(model, change, check)
    return model


def _changed(
    model: nn.Module, change: Callable[[nn.Module], nn.Module], check: Callable[[nn.Module], bool]
) -> nn.Module:
    """The changed model if it passes the check, else the model."""
    try:
        candidate = change(model)
        return candidate if candidate is model or check(candidate) else model
    except Exception:  # from the model's own code, on stand-ins, in another layout or in half precision
        return model
