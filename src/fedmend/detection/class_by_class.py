"""The finding of a detector that searches a trigger for every class and compares one number of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedmend.detection.base import Case, Finding
from fedmend.detection.lone_suspect import success_of
from fedmend.detection.outlier_rule import Compared, judged
from fedmend.detection.search.inverted import Inverted
from fedmend.triggers import Addition, Patch


def finding_of_classes(
    name: str,
    case: Case,
    found: Inverted[Patch | Addition],
    compared: Compared,
    *,
    notes: tuple[str, ...],
    settings: Mapping[str, Any],
) -> Finding:
    """What the rule says (see :func:`~fedmend.detection.outlier_rule.judged`), and how the search went.

    Args:
        name: the detector's.
        case: with the images that flagged classes' triggers are tried on.
        found: the search's result.
        compared: a number of each class.
        notes: how the search was made possible, such as how the model was accelerated.
        settings: the detector's.
    """
    finding = judged(
        name, compared, found.triggers, lambda number: success_of(case, found.triggers[number], number)
    )
    return replace(
        finding,
        warnings=found.warnings(case.class_name),
        notes=notes,
        settings=dict(settings),
        stop_reason=found.stop_reason,
    )
