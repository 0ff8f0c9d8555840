"""Which accuracies speak for a configuration mistake: pure functions, from numbers to words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

_POOR = 0.25
"""A model that gets less than this fraction of the way from chance to 1 can't carry a verdict."""
_FAIR = 0.4
"""Below this fraction of the way, a clean verdict needs a person who says that so low an accuracy is expected."""
_TOLERANCE = 0.05
"""Accuracy that may be missing, beside two standard errors."""
_DROP = 0.15
"""How far below the reference's the suspect's accuracy may be, beside three standard errors."""
_SIGMAS = 3
"""How many standard deviations a gain must exceed chance by."""
_LUCK = 2
"""By how many standard deviations a gain may seem too small on some of the images."""
_ERROR_LEFT = 3 / 4
"""A mistake explains a model's errors if at most this fraction of them is left without it."""

_CHECK = "Check that images, labels, classes, normalisation and models match"


def fair_accuracy(classes: int) -> float:
    """The accuracy from which on a model of so many classes counts as trained."""
    return _of_the_way(_FAIR, classes)


def may_be_explained(right: Tensor) -> bool:
    """Whether there are enough errors for :func:`explains`; ``right``: bool (N,)."""
    return int((~right).sum()) >= max(_TOLERANCE * len(right), _SIGMAS**2)


def may_still_explain(right: Tensor, right_then: Tensor) -> bool:
    """Whether, after some of the images, a change may turn out to explain the errors, but for bad luck.

    It gains five points or is behind that by no more than two standard errors.

    Args:
        right, right_then: see :func:`explains`, of the images so far.
    """
    gained = int(right_then.sum()) - int(right.sum())
    differ = int((right != right_then).sum())
    return gained >= _TOLERANCE * len(right) - _LUCK * math.sqrt(differ)


def explains(right: Tensor, right_then: Tensor) -> bool:
    """Whether a change removes a quarter of a model's errors or more, and too many for chance.

    Args:
        right, right_then: which images the model gets right, without and with the change, bool (N,).
    """
    errors, errors_then = int((~right).sum()), int((~right_then).sum())
    differ = int((right != right_then).sum())
    gained = errors - errors_then
    enough = gained >= max(_TOLERANCE * len(right), _SIGMAS * math.sqrt(differ))
    return gained > 0 and enough and errors_then <= _ERROR_LEFT * errors


def one_class(name: str, class_name: str) -> str:
    """The verdict on a model that predicts one class only, in words."""
    return (
        f'The {name} predicts "{class_name}" for nearly every image, as an untrained or damaged model does, or one '
        f"that gets pixels of another range. {_CHECK}."
    )


def far_from_expected(name: str, accuracy: float, expected: float | None, images: int) -> Iterator[str]:
    """In words, if an accuracy is below the expected one by more than chance explains.

    Args:
        name: of the model. accuracy: on the images. expected: what a person stated; None if nobody did.
        images: how many.
    """
    if expected is None:
        return
    spread = 2 * math.sqrt(expected * (1 - expected) / images)
    if accuracy < expected - _TOLERANCE - spread:
        yield f"The {name} gets {accuracy:.0%} of the images right, and {expected:.0%} is expected. {_CHECK}."


def hardly_better_than_chance(name: str, accuracy: float, classes: int) -> Iterator[str]:
    """In words, if an accuracy is that low."""
    if accuracy < _of_the_way(_POOR, classes):
        yield (
            f"The {name} gets only {accuracy:.0%} of the images right, hardly better than chance ({1 / classes:.0%}). "
            f"{_CHECK}, or use better models."
        )


def unusually_low(name: str, accuracy: float, classes: int) -> Iterator[str]:
    """In words, if a trained model would be better, as a rule."""
    if accuracy < fair_accuracy(classes):
        yield (
            f"The {name} gets only {accuracy:.0%} of the images right. {_CHECK}; if that is its accuracy, say so "
            "(--expected-accuracy)."
        )


def far_below_reference(suspect: float, reference: float, images: int) -> Iterator[str]:
    """In words, if the suspect is much less accurate than the reference."""
    spread = _SIGMAS * math.sqrt((suspect * (1 - suspect) + reference * (1 - reference)) / images)
    if suspect < reference - _DROP - spread:
        yield (
            f"The suspect gets {suspect:.0%} of the images right, and the reference {reference:.0%}: they may expect "
            "different pixels or classes, or the suspect is damaged."
        )


def _of_the_way(fraction: float, classes: int) -> float:
    return 1 / classes + fraction * (1 - 1 / classes)
