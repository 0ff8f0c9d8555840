"""Numbers, verdicts and outcomes in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedmend.detection.base import Tone, Verdict
from fedmend.repairs.repair_report import Outcome

MISSING = "–"

Scale = Literal["fraction", "log", "plain"]

TONES: dict[Tone, str] = {"suspicious": "bad", "innocent": "good", "unsure": "unsure"}
"""The style sheet's name for each tone of a measure."""


@dataclass(frozen=True)
class Wording:
    """A result's texts and tone. The tone picks colour and icon, which never appear without the words."""

    tone: str
    short: str
    headline: str
    meaning: str


VERDICTS: dict[Verdict, Wording] = {
    "backdoored": Wording(
        "bad",
        "backdoored",
        "Backdoor found",
        "Don’t release this model: repair it, or return to an earlier round.",
    ),
    "clean": Wording(
        "good",
        "clean",
        "No backdoor found",
        "The scan found no backdoor of the kind that it looks for, on images like those scanned. The model may still "
        "have a backdoor of another kind, one that the reference has as well, or low accuracy.",
    ),
    "inconclusive": Wording(
        "unsure",
        "inconclusive",
        "The scan is inconclusive",
        "The evidence is not enough to release or reject this model. Read the reason and the warnings, then "
        "scan again with more images, another reference or a longer search.",
    ),
}

WEAKLY_CLEAN = Wording(
    "plain",
    "nothing unusual",
    "Nothing unusual found, without a reference",
    "That is weak evidence. The model was compared with no clean one, so read below what such a scan can’t tell.",
)
"""A clean verdict of a scan without a reference."""

RELEASE_THE_REPAIRED = (
    "Don’t release this model, but the repaired one: "
    "its accuracy held, and a new scan finds no backdoor in it."
)
"""What a backdoored model's verdict means where it was repaired."""

OUTCOMES: dict[Outcome, Wording] = {
    "repaired": Wording(
        "good", "repaired", "Repaired", "A new scan finds no backdoor, and the accuracy held."
    ),
    "unverified": Wording(
        "unsure",
        "unverified",
        "Repair not verified",
        "The accuracy held within the limit. No scan has checked whether the model had such a backdoor, or whether "
        "it is gone.",
    ),
    "failed": Wording("bad", "failed", "Repair failed", "Don’t release the result."),
    "not needed": Wording("good", "not needed", "No repair needed", "The model was not changed."),
    "undecided": Wording(
        "unsure",
        "undecided",
        "Not repaired",
        "The scan was inconclusive, or recovered no trigger to repair by, so the model was not changed.",
    ),
}

STAGES = {
    "suspect": ("Suspect", "before the repair"),
    "pruned": ("Pruned", "the voted channels set to zero"),
    "adjusted": ("Extreme weights adjusted", "those beyond delta set to zero"),
    "fine-tuned": ("Fine-tuned", "with the pruning mask held"),
    "adjusted again": ("Extreme weights adjusted again", "those beyond delta set to zero"),
}

VOTES = {"ranking": "ranking of the channels", "majority": "majority for or against each channel"}


def verdict(found: Verdict, *, compared: bool) -> Wording:
    """A verdict's wording; a clean one is weaker if there was no reference to compare with."""
    return WEAKLY_CLEAN if found == "clean" and not compared else VERDICTS[found]


def percent(fraction: float | None) -> str:
    """Format a fraction in [0, 1], as 93.4%."""
    return MISSING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}%"


def points(fraction: float) -> str:
    """Format a difference of fractions, as 1.0 points."""
    return MISSING if not math.isfinite(fraction) else f"{100 * fraction:.1f} points"


def measured(value: float, scale: Scale) -> str:
    """Format a measure's value by its scale."""
    return percent(value) if scale == "fraction" else number(value)


def limit(value: float, scale: Scale) -> str:
    """Format a limit by its scale; percentages without trailing zeros, as 80% or 2.5%."""
    return f"{100 * value:g}%" if scale == "fraction" else number(value)


def patch_size(size: float) -> str:
    """Format a mask's size in pixels, as 7 or 6.2."""
    return f"{size:,.0f}" if abs(size - round(size)) < 0.005 else f"{size:,.1f}"


def number(value: float) -> str:
    """Format about three significant digits; an exponent only for very large values."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size >= 1e12:
        return f"{value:.2g}".replace("-", "\u2212")
    if size >= 100 or value == round(value):
        text = f"{value:,.0f}"
    elif size < 0.0005:
        text = "<0.001" if value > 0 else f"{value:.6f}"
    else:
        text = f"{value:.{1 if size >= 10 else 2 if size >= 0.1 else 3}f}"
    return text.replace("-", "\u2212")


def duration(seconds: float) -> str:
    """Format a duration, as 8.4 s, 42 s, 3 min 12 s or 1 h 5 min."""
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
    """The class's name, or its number if it has none."""
    return names[index] if 0 <= index < len(names) and names[index].strip() else f"class {index}"


def class_list(classes: Sequence[int], names: Sequence[str], most: int = 6) -> str:
    """Source classes by name; "all other classes" if there are none."""
    if not classes:
        return "all other classes"
    shown = ", ".join(class_name(index, names) for index in classes[:most])
    return shown if len(classes) <= most else f"{shown} and {len(classes) - most} more"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and texts."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", plain_text(value)


def plain_text(value: Any) -> str:
    """A setting's value as text; "none" for an empty one."""
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, text in flatten(value))
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
