"""What the gate makes of its evidence: the outcome of a repair, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fedmend.repairs.gate import Evidence, Gate
from fedmend.repairs.repair_report import TargetCheck

_NAMED = 3  # triggers that still work besides the worst


def judge(
    gate: Gate, evidence: Evidence, summary: str, class_names: Sequence[str] = ()
) -> tuple[Literal["repaired", "unverified", "failed"], str]:
    """The outcome and its reason, in words.

    Args:
        summary: what was done, without a full stop.
        class_names: one per class; without them, classes are numbered.
    """
    before, after, error = evidence.accuracy_before, evidence.accuracy_after, evidence.accuracy_error
    if evidence.flaw is not None:
        return "failed", f"{summary}, but {evidence.flaw}. Go back to an earlier round's model."
    if not evidence.finite:
        return (
            "failed",
            f"{summary}, but a figure that was measured is NaN or infinite, so nothing vouches for it.",
        )
    accuracies = f"clean accuracy {_where(evidence)} went from {before:.1%} to {after:.1%}"
    if before - after - error > gate.max_accuracy_drop + 1e-9:  # 1.0 - 0.99 is a little more than 0.01
        return "failed", (
            f"{summary}, but {accuracies}: a drop of {before - after:.1%} ± {error:.1%}; allowed is "
            f"{gate.max_accuracy_drop:.1%}. Use more images or raise --max-accuracy-drop."
        )
    if evidence.verdict_after not in ("clean", None):
        return "failed", (
            f"{summary}, but the new scan's verdict is {evidence.verdict_after}; {accuracies}. Use more images, or "
            "return to an earlier round's model."
        )
    worst = max(evidence.target_checks, key=_excess, default=None)
    if worst is not None and _works(gate, worst):
        return "failed", (
            f"{summary}, but a found trigger still works: it {_sends(worst, evidence, class_names)}, "
            f"{worst.success_before:.0%} before{_in_reference(worst)}{_others(gate, evidence, class_names)}; "
            f"{accuracies}. "
            "Repair for longer, or go back to an earlier round's model."
        )
    outcome: Literal["repaired", "unverified"] = (
        "unverified" if evidence.verdict_after is None or evidence.overlooked else "repaired"
    )
    return (
        outcome,
        f"{summary}; {accuracies}. {_triggers(evidence, class_names)}{_verified(evidence)}{_gone_back(evidence)}",
    )


def _where(evidence: Evidence) -> str:
    """What the accuracies were measured on, in words."""
    if not evidence.num_judged:
        return "as the clients report it"
    if not evidence.num_heldout:
        return "on the images that also chose the model"
    if evidence.num_heldout < evidence.num_judged:
        return f"on {evidence.num_judged} images, {evidence.num_heldout} of them held out,"
    return "on held-out images"


def _images(evidence: Evidence) -> str:
    all_held_out = 0 < evidence.num_heldout >= evidence.num_judged
    return "held-out images" if all_held_out else "images"


def _triggers(evidence: Evidence, class_names: Sequence[str]) -> str:
    if not evidence.target_checks:
        return ""
    best, *others = sorted(evidence.target_checks, key=lambda check: -check.success_before)
    said = (
        f"The best trigger found sent {best.success_before:.0%} of the {_images(evidence)} "
        f"{_moved(best, class_names)} before and sends {best.success_after:.0%} now. "
    )
    if others:
        now = max(others, key=_excess)
        which = f"Of the {len(others)} others, the best now" if len(others) > 1 else "The other one now"
        said += f"{which} {_sends(now, evidence, class_names)}{_in_reference(now)}. "
    return said


def _others(gate: Gate, evidence: Evidence, class_names: Sequence[str]) -> str:
    """How many triggers still work besides the worst, and how well the next few do."""
    _, *others = sorted(
        (each for each in evidence.target_checks if _works(gate, each)), key=_excess, reverse=True
    )
    if not others:
        return ""
    figures = [
        f"{each.success_after:.0%} {_moved(each, class_names)}{_in_reference(each)}"
        for each in others[:_NAMED]
    ]
    more = len(others) - len(figures)
    figures += [f"and {more} more"] if more else []
    count = "1 other still works" if len(others) == 1 else f"{len(others)} others still work"
    return f"; {count} ({', '.join(figures)})"


def _works(gate: Gate, check: TargetCheck) -> bool:
    return check.excess >= gate.max_trigger_success


def _excess(check: TargetCheck) -> float:
    return check.excess


def _sends(check: TargetCheck, evidence: Evidence, class_names: Sequence[str]) -> str:
    return f"sends {check.success_after:.0%} of the {_images(evidence)} {_moved(check, class_names)}"


def _in_reference(check: TargetCheck) -> str:
    clean = check.success_reference
    return "" if clean is None else f" and {clean:.0%} in the clean reference"


def _verified(evidence: Evidence) -> str:
    if evidence.verdict_after is None:
        return (
            "No new scan was made, so nothing verified that the backdoor is gone; a new scan needs a clean reference "
            "and the server's own images."
        )
    if evidence.overlooked:
        return (
            "A new scan finds no backdoor, but did not search for one of a single source class, as was found before: "
            f"{evidence.overlooked}. Use more images, half of which are held out, or more effort."
        )
    return "A new scan finds no backdoor."


def _gone_back(evidence: Evidence) -> str:
    """That nothing is gained over the reference, if so."""
    if evidence.accuracy_reference is None or evidence.accuracy_reference < evidence.accuracy_after:
        return ""
    return f" The reference is as accurate ({evidence.accuracy_reference:.1%}), so going back to it loses nothing."


def _moved(check: TargetCheck, class_names: Sequence[str]) -> str:
    """From which classes to which it moves images, in words."""

    def named(classes: Sequence[int]) -> str:
        if class_names:
            return ", ".join(f'"{class_names[each]}"' for each in classes)
        return f"class {', '.join(map(str, classes))}"

    sources = named(check.sources) if check.sources else "other classes"
    return f"of {sources} to {named((check.target,))}"
