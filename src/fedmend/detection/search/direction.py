"""Two models in one direction: a trigger should work in one of them and leave the other's predictions as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.detection.model_pair import ModelPair

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
        fires, stays = pair.suspect_clean[1], pair.reference_clean[1]
        suspect, reference = pair.exact or (pair.suspect, pair.reference)
        return Direction(
            _scaled(pair.suspect, fires),
            _scaled(pair.reference, stays),
            _scaled(suspect, fires),
            _scaled(reference, stays),
            pair.images,
            fires.argmax(1),
            stays.argmax(1),
            fires.shape[1],
        )


def _scaled(outputs: Callable[[Tensor], tuple[Tensor, Tensor]], clean: Tensor) -> Logits:
    """The model's logits, multiplied so that the median gap between the two highest is 6 on the clean images.

    Softmax and cross-entropy depend on the logits' scale; predictions don't, so neither should a search. Outputs that
    are probabilities become their logarithms first.
    """
    probabilities = _are_probabilities(clean)
    two = _logarithms(clean, probabilities).topk(2, 1).values
    gap = (two[:, 0] - two[:, 1]).median()
    factor = _MARGIN / gap if float(gap) > 0 else torch.ones_like(gap)

    def logits(images: Tensor) -> Tensor:
        return _logarithms(outputs(images)[1], probabilities) * factor

    return logits


def _are_probabilities(outputs: Tensor) -> bool:
    return bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < _SUM).all())


def _logarithms(outputs: Tensor, probabilities: bool) -> Tensor:
    return outputs.clamp_min(_SMALLEST).log() if probabilities else outputs
