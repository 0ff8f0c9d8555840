"""Numbers, verdicts and outcomes in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fedmend.detection.scan_report import Verdict
from fedmend.repairs.repairing import Outcome

MISSING = "–"


@dataclass(frozen=True)
class Wording:
    """How a result is said and shown: its tone picks colour and icon, never without the words."""

    tone: str
    short: str
    headline: str
    meaning: str


VERDICTS: dict[Verdict, Wording] = {
    "backdoored": Wording(
        "bad",
        "backdoored",
        "Backdoor found",
        "One small patch makes this model give the same answer whatever the image shows, and the reference "
        "model isn’t fooled by it. Don’t release the model as it is: repair it, or go back to an earlier "
        "round.",
    ),
    "clean": Wording(
        "good",
        "clean",
        "No backdoor found",
        "The search found no small patch that turns this model’s answers without turning the reference’s as "
        "well. This speaks about triggers that are stamped on an image, and about images like those scanned. "
        "It isn’t proof that there is no backdoor of another kind, nor that the model is right.",
    ),
    "inconclusive": Wording(
        "unsure",
        "inconclusive",
        "The scan can’t say",
        "The evidence is enough neither to release this model nor to reject it. Look at the reason and the "
        "warnings, then scan again: with more images, another reference or a longer search.",
    ),
}

OUTCOMES: dict[Outcome, Wording] = {
    "repaired": Wording("good", "repaired", "Repaired", "The backdoor is out and the accuracy was kept."),
    "failed": Wording(
        "bad", "failed", "Repair failed", "The result isn’t fit to use in the suspect's place."
    ),
    "not needed": Wording("good", "not needed", "No repair needed", "The model was left as it is."),
    "undecided": Wording(
        "unsure", "undecided", "Not repaired", "The scan was inconclusive, so the model was left as it is."
    ),
}

PRUNINGS: dict[Literal["pruned", "failed"], Wording] = {
    "pruned": Wording(
        "plain",
        "pruned",
        "Pruned",
        "The model kept its accuracy, within the limit that was set, without the channels that the clients voted "
        "out.",
    ),
    "failed": Wording(
        "bad",
        "failed",
        "Pruning failed",
        "The accuracy fell by more than was allowed. The result isn’t fit to use in the suspect’s place.",
    ),
}

NO_SCAN = (
    "No scan is behind the pruning: it gives no verdict on whether the model had a backdoor, nor on whether that is "
    "gone."
)


def pruning(outcome: Literal["pruned", "failed"], adjusted: bool) -> Wording:
    """The outcome of a pruning; ``adjusted``: extreme weights were set to zero as well."""
    wording = PRUNINGS[outcome]
    if outcome == "pruned" and adjusted:
        return replace(wording, meaning=f"{wording.meaning[:-1]} and without its extreme weights.")
    return wording


STAGES = {
    "suspect": ("Suspect", "as it came"),
    "pruned": ("Pruned", "channels voted out set to zero"),
    "adjusted": ("Extreme weights adjusted", "those beyond delta set to zero"),
    "fine-tuned": ("Fine-tuned", "trained on, with zeros held"),
    "adjusted again": ("Extreme weights adjusted again", "those beyond delta set to zero"),
}

VOTES = {"ranking": "ranking of the channels", "majority": "majority for or against each channel"}

ATTACKS = {
    "sba": "single attacker (SBA): one client plants the whole trigger",
    "dba": "distributed attack (DBA): several clients plant a part of the trigger each",
}


def percent(share: float | None) -> str:
    """A share in [0, 1], as 93.4%."""
    return MISSING if share is None or not math.isfinite(share) else f"{100 * share:.1f}%"


def points(share: float) -> str:
    """A difference of shares, as 1.0 points."""
    return MISSING if not math.isfinite(share) else f"{100 * share:.1f} points"


def limit(share: float) -> str:
    """A limit that somebody set, as 80% or 2.5%: without decimals that say nothing."""
    return f"{100 * share:g}%"


def pixels(size: float) -> str:
    """A mask's size, as 7 or 6.2."""
    return f"{size:,.0f}" if abs(size - round(size)) < 0.005 else f"{size:,.1f}"


def number(value: float) -> str:
    """About three significant digits, never an exponent."""
    if not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size >= 100 or value == round(value):
        return f"{value:,.0f}"
    if size < 0.0005:
        return "<0.001" if value > 0 else f"{value:.1g}"
    return f"{value:.{1 if size >= 10 else 2 if size >= 0.1 else 3}f}"


def duration(seconds: float) -> str:
    """A time, as 8.4 s, 42 s, 3 min 12 s or 1 h 5 min."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def class_name(index: int, names: Sequence[str]) -> str:
    """The class's name, or its number where it has none."""
    return names[index] if 0 <= index < len(names) and names[index].strip() else f"class {index}"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and texts."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
