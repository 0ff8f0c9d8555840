"""Which of the triggers that detectors found a repair works against."""

from __future__ import annotations

from collections.abc import Sequence

from fedmend.detection import Finding, Target
from fedmend.errors import DataError
from fedmend.triggers import Trigger


def all_triggers(findings: Sequence[Finding]) -> list[Trigger]:
    """Every trigger that the findings name, with its variants; none if there are none."""
    return [
        trigger
        for finding in findings
        for target in finding.targets
        if target.trigger is not None
        for trigger in (target.trigger, *target.variants)
    ]


def first_targets(findings: Sequence[Finding]) -> list[tuple[Target, Trigger]]:
    """Each target with a trigger, of the first finding that names any, and its trigger without variants.

    Raises:
        DataError: no finding names a trigger.
    """
    for finding in findings:
        named = [(target, target.trigger) for target in finding.targets if target.trigger is not None]
        if named:
            return list(named)
    raise DataError("this repair needs a trigger that a detector recovered; no finding names one")
