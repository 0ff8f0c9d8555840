"""Which of fedmend's own detectors a case allows, and which of them a scan uses unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from fedmend.detection.base import Detector, Need, in_words
from fedmend.detection.json_types import STRICT

WITH_REFERENCE = ("differential",)
"""The default of a case with a reference."""
WITHOUT_REFERENCE = ("abs", "mm-bd")
"""The default of a case without one: each finds patches that the other misses."""


@dataclass(frozen=True)
class LeftOut:
    """A detector that could not be used.

    Attributes:
        method: its name.
        reason: that it needs what the case doesn't have, or why it can't judge the model.
    """

    __pydantic_config__ = STRICT

    method: str
    reason: str


@dataclass(frozen=True)
class DetectorChoice:
    """Some of fedmend's own detectors, as far as a case allows.

    Attributes:
        detectors: those that it allows, by name. A scan leaves out one that can't judge the model.
        left_out: the others.
    """

    detectors: Mapping[str, Detector]
    left_out: tuple[LeftOut, ...] = ()


def by_reason(left_out: Sequence[LeftOut]) -> dict[str, list[str]]:
    """The methods that were left out, by the reason."""
    found: dict[str, list[str]] = {}
    for each in left_out:
        found.setdefault(each.reason, []).append(each.method)
    return found


def default_methods(lacks: Set[Need]) -> tuple[str, ...]:
    """The names of the detectors that a scan uses unless others are asked for.

    Args:
        lacks: see :attr:`Case.lacks`.
    """
    return WITHOUT_REFERENCE if Need.REFERENCE in lacks else WITH_REFERENCE


def default_detectors(lacks: Set[Need] = frozenset()) -> DetectorChoice:
    """These detectors, with their default settings, as far as a case allows that lacks this."""
    return _choice(default_methods(lacks), lacks)


def all_detectors(lacks: Set[Need] = frozenset()) -> DetectorChoice:
    """Every detector of fedmend's own, with its default settings, as far as a case allows that lacks this.

    Args:
        lacks: see :attr:`Case.lacks`.
    """
    from fedmend.detection import DETECTORS  # the table imports the detectors, and they this package

    return _choice(DETECTORS, lacks)


def _choice(names: Iterable[str], lacks: Set[Need]) -> DetectorChoice:
    from fedmend.detection import DETECTORS

    made = {name: DETECTORS[name]() for name in names}
    missing = {name: detector.needs & lacks for name, detector in made.items()}
    return DetectorChoice(
        {name: detector for name, detector in made.items() if not missing[name]},
        tuple(LeftOut(name, f"needs {in_words(needs)}") for name, needs in missing.items() if needs),
    )
