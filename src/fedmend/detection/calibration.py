"""What was measured of the differential detector on benchmark federations, for its reports."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any


def p_value(lead: float) -> float | None:
    """How often an honest model would have at least this lead, in (0, 1].

    A conformal p-value: the rank of ``lead`` among the largest leads of honest federations, one per federation. It
    holds for a model whose federation is like these. The smallest possible value is 1 / (number of federations + 1).

    Args:
        lead: a scan's largest in units of its limit, see
            :meth:`~fedmend.detection.difference_rule.DifferenceLimits.excess`.

    Returns:
        The p-value; None if ``lead`` is NaN or nothing was measured.
    """
    leads: list[float] = _resource("calibration.json").get("leads", [])
    if not leads or math.isnan(lead):
        return None
    return (1 + sum(1 for each in leads if each >= lead)) / (len(leads) + 1)


def smallest_p_value() -> float | None:
    """The p-value of a lead larger than any measured honest one; None if nothing was measured."""
    return p_value(math.inf)


def measured_share(effort: str, family: str) -> tuple[int, int] | None:
    """How many of how many backdoored models of a family the detector found, with the target named.

    Args:
        effort: see :class:`~fedmend.detection.differential.Differential`.
        family: such as "patch, all-to-one".

    Returns:
        Both numbers; None if that was not measured.
    """
    share = _resource("measured.json").get(effort, {}).get(family)
    return None if share is None else (share[0], share[1])


@cache
def _resource(name: str) -> dict[str, Any]:
    """The JSON beside this module; empty if there is none."""
    file = files("fedmend.detection") / name
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
