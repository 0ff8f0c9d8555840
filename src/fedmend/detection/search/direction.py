"""Two models in one direction: a trigger should work in one of them and leave the other's predictions as they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedmend.detection.model_pair import ModelPair
from fedmend.detection.search.work import Work

_MARGIN = 6.0
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
        clean_logits: of ``fires`` and ``stays`` on the images, (2, N, classes), on the common scale.
        at_once: how many images may go through both models, forward and backward, at once.
        work: counts the passes of both models.
    """

    fires: Logits
    stays: Logits
    fires_exactly: Logits
    stays_exactly: Logits
    images: Tensor
    before: Tensor
    kept: Tensor
    classes: int
    clean_logits: Tensor
    at_once: int = sys.maxsize
    work: Work = field(default_factory=Work)

    @staticmethod
    def of(pair: ModelPair, at_once: int = sys.maxsize, work: Work | None = None) -> Direction:
        """From the suspect of a pair, in which triggers should work, to its reference; see the attributes."""
        fires, stays = pair.suspect_clean[1], pair.reference_clean[1]
        suspect, reference = pair.exact or (pair.suspect, pair.reference)
        work = work or Work()
        scales = _Scale.of(fires), _Scale.of(stays)
        return Direction(
            _scaled(pair.suspect, scales[0], work),
            _scaled(pair.reference, scales[1], work),
            _scaled(suspect, scales[0], work),
            _scaled(reference, scales[1], work),
            pair.images,
            fires.argmax(1),
            stays.argmax(1),
            fires.shape[1],
            torch.stack([scales[0](fires), scales[1](stays)]),
            at_once,
            work,
        )


@dataclass(frozen=True, eq=False)
class _Scale:
    """Multiplies a model's logits so that the median gap between the two highest is 6 on the clean images.

    Softmax and cross-entropy depend on the logits' scale; predictions don't, so neither should a search. Outputs that
    are probabilities become their logarithms first.
    """

    probabilities: bool
    factor: Tensor

    @staticmethod
    def of(clean: Tensor) -> _Scale:
        probabilities = _are_probabilities(clean)
        two = _logarithms(clean, probabilities).topk(2, 1).values
        gap = (two[:, 0] - two[:, 1]).median()
        return _Scale(probabilities, _MARGIN / gap if float(gap) > 0 else torch.ones_like(gap))

    def __call__(self, outputs: Tensor) -> Tensor:
        return _logarithms(outputs, self.probabilities) * self.factor


def _scaled(outputs: Callable[[Tensor], tuple[Tensor, Tensor]], scale: _Scale, work: Work) -> Logits:
    def logits(images: Tensor) -> Tensor:
        work.count(images)
        return scale(outputs(images)[1])

    return logits


def _are_probabilities(outputs: Tensor) -> bool:
    return bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < _SUM).all())


def _logarithms(outputs: Tensor, probabilities: bool) -> Tensor:
    return outputs.clamp_min(_SMALLEST).log() if probabilities else outputs
