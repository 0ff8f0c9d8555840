"""Several methods side by side: where they agree, and where they don't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedmend.detection.base import Finding, Verdict
from fedmend.detection.json_types import STRICT

CASE_CHECK = "case-check"
"""The finding that is of no method."""

_ORDER: tuple[Verdict, ...] = ("backdoored", "inconclusive", "clean")


@dataclass(frozen=True)
class Agreement:
    """What the methods of one scan say.

    Attributes:
        unanimous: whether all say the same, and name the same target if that is a backdoor.
        verdicts: the methods by their verdict.
        targets: of the methods that say backdoored, by the class that each suspects most; without those that name none.
        summary: all of that in words.
    """

    __pydantic_config__ = STRICT

    unanimous: bool
    verdicts: dict[Verdict, tuple[str, ...]]
    targets: dict[int, tuple[str, ...]] = field(default_factory=dict)
    summary: str = ""


def compare_methods(findings: Sequence[Finding], class_names: Sequence[str]) -> Agreement | None:
    """Compare the findings of two methods or more; None for fewer.

    Args:
        findings: of one scan. That of the case check is of no method.
        class_names: one per class; empty if they aren't known.
    """
    methods = [finding for finding in findings if finding.detector != CASE_CHECK]
    if len(methods) < 2:
        return None
    verdicts: dict[Verdict, tuple[str, ...]] = {}
    targets: dict[int, tuple[str, ...]] = {}
    for verdict in _ORDER:
        names = tuple(finding.detector for finding in methods if finding.verdict == verdict)
        if names:
            verdicts[verdict] = names
    for finding in methods:
        if finding.verdict == "backdoored" and finding.targets:
            first = finding.targets[0].target
            targets[first] = (*targets.get(first, ()), finding.detector)
    unanimous = len(verdicts) == 1 and len(targets) < 2
    return Agreement(unanimous, verdicts, targets, " ".join(_said(verdicts, targets, class_names)))


def _said(
    verdicts: dict[Verdict, tuple[str, ...]], targets: dict[int, tuple[str, ...]], class_names: Sequence[str]
) -> Iterator[str]:
    total = sum(map(len, verdicts.values()))
    if len(verdicts) == 1:
        yield f"{'Both' if total == 2 else f'All {total}'} methods say {next(iter(verdicts))}."
    else:
        parts = [f"{len(names)} {verdict} ({', '.join(names)})" for verdict, names in verdicts.items()]
        yield f"The {total} methods disagree: {', '.join(parts)}."
    if len(targets) > 1:
        named = [f"{_name(target, class_names)} ({', '.join(names)})" for target, names in targets.items()]
        yield f"They name different targets: {', '.join(named)}."
    elif targets and len(verdicts["backdoored"]) > 1:
        yield f"The target is {_name(next(iter(targets)), class_names)}."
    if len(verdicts) > 1:
        yield "The scan's verdict is the worst of them; each further method can also raise a false alarm."


def _name(target: int, class_names: Sequence[str]) -> str:
    """A class in quotes; its number where a case without images doesn't say the names."""
    return f'"{class_names[target]}"' if target < len(class_names) else f'"{target}"'
