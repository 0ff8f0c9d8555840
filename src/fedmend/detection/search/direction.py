"""Two models in one direction: a trigger should work in one of them and leave the other's predictions as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.detection.model_pair import ModelPair

_MARGIN, _STEPS = 6.0, 20
_SMALLEST = 1e-30
_SUM = 1e-3

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Direction:
    """What a search works on.

    Attributes:
        fires: the model in which a trigger should work: images (N, C, H, W) to logits (N, classes), on a common scale.
        stays: the model that should keep its predictions, likewise.
        fires_exactly, stays_exactly: the same in the models' own precision, to judge with. Large weights that cancel
            can hide a backdoor from a search's loss in half precision, but not from them.
        images: clean ones, float (N, C, H, W) in [0, 1].
        before: what ``fires`` predicts for them, int64 (N,).
        kept: what ``stays`` predicts for them, int64 (N,).
        classes: number of classes.
    """

    fires: Logits
    stays: Logits
    fires_exactly: Logits
    stays_exactly: Logits
    images: Tensor
    before: Tensor
    kept: Tensor
    classes: int

    @staticmethod
    def of(pair: ModelPair) -> Direction:
        """From the suspect of a pair, in which triggers should work, to its reference."""
        clean = [_scaled(logits) for logits in (pair.suspect_clean[1], pair.reference_clean[1])]
        common = torch.stack([_priors(scale(logits)) for scale, logits in clean]).mean(0)
        fires, stays = (_with_priors(scale, logits, common) for scale, logits in clean)
        suspect, reference = pair.exact or (pair.suspect, pair.reference)
        before, kept = fires(pair.suspect_clean[1]), stays(pair.reference_clean[1])
        return Direction(
            lambda images: fires(pair.suspect(images)[1]),
            lambda images: stays(pair.reference(images)[1]),
            lambda images: fires(suspect(images)[1]),
            lambda images: stays(reference(images)[1]),
            pair.images,
            before.argmax(1),
            kept.argmax(1),
            before.shape[1],
        )


def _scaled(clean: Tensor) -> tuple[Logits, Tensor]:
    """A model's logits, multiplied so that the median gap between the two highest is 6 on the clean images.

    Softmax and cross-entropy depend on the logits' scale; predictions don't, so neither should a search. Outputs that
    are probabilities become their logarithms first.

    Returns:
        The function, from outputs to logits, and ``clean`` unchanged.
    """
    probabilities = _are_probabilities(clean)
    two = _logarithms(clean, probabilities).topk(2, 1).values
    gap = (two[:, 0] - two[:, 1]).median()
    factor = _MARGIN / gap if float(gap) > 0 else torch.ones_like(gap)
    return lambda outputs: _logarithms(outputs, probabilities) * factor, clean


def _priors(logits: Tensor) -> Tensor:
    """The mean probability of each class, (classes,)."""
    return logits.softmax(1).mean(0)


def _with_priors(scale: Logits, clean: Tensor, wanted: Tensor) -> Logits:
    """Logits to which each class's offset was added, so that its mean probability on the clean images is as wanted.

    An honest round with few labels makes a model prefer some classes on any image. Both models get the same priors, so
    that no class has a head start in one of them (as classifiers are adapted to another label distribution).
    """
    logits = scale(clean)
    offsets = torch.zeros_like(wanted)
    for _ in range(_STEPS):
        offsets += (
            wanted.clamp_min(_SMALLEST).log() - _priors(logits + offsets).clamp_min(_SMALLEST).log()
        ).clamp(-1, 1)
    offsets = (offsets - offsets.mean()).clamp(-_MARGIN, _MARGIN)
    return lambda outputs: scale(outputs) + offsets


def _are_probabilities(outputs: Tensor) -> bool:
    return bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < _SUM).all())


def _logarithms(outputs: Tensor, probabilities: bool) -> Tensor:
    return outputs.clamp_min(_SMALLEST).log() if probabilities else outputs
