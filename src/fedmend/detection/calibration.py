"""What was measured on other models: how large honest leads are, and how many backdoors each effort finds.

The numbers are in ``calibration.json`` and ``measured.json``, which ``benchmarks/zoo`` writes.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def p_value(lead: float) -> float:
    """How likely an honest model is to have a lead at least as large as ``lead``; in (0, 1].

    This is a conformal p-value: ``(1 + k) / (n + 1)``, if ``k`` of ``n`` honest federations had such a lead. Of each
    federation only the largest counts among its pairs of a later and an earlier model, since the rounds of one
    federation are not independent; so the value errs on the side of innocence for a single pair. It holds if the
    suspect's federation is exchangeable with those that were measured, which nothing can check: for data, networks or
    training unlike them, it is an indication. The smallest possible value is ``1 / (n + 1)``, see
    :func:`smallest_p_value`.

    Args:
        lead: the largest over all families of triggers that were searched, in sizes; NaN counts as unknown: 1.
    """
    leads = _read("calibration.json")["leads"]
    return (1 + sum(not each < lead for each in leads)) / (len(leads) + 1)


def smallest_p_value() -> float:
    """The p-value of a lead larger than any measured honest one."""
    return p_value(float("inf"))


def measured_share(effort: str, family: str) -> tuple[int, int] | None:
    """How many backdoored test models of a family an effort finds.

    Args:
        effort: "quick", "standard" or "exhaustive".
        family: of triggers, such as "patch, all-to-one".

    Returns:
        How many were found with their target class, and of how many; None if that was not measured.
    """
    counts = _read("measured.json").get(effort, {}).get(family)
    return None if counts is None else (counts[0], counts[1])


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_HERE / name).read_text(encoding="utf-8"))
    return content
