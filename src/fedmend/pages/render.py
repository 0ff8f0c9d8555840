"""From results to HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from fedmend.detection.scan_report import ScanReport
from fedmend.files import write_text
from fedmend.pages import charts, pictures, words
from fedmend.pages.contents import ReportContents
from fedmend.pages.pruning_view import pruning_settings, pruning_view
from fedmend.triggers import Patch

MAX_EXAMPLES = 8


def render(contents: ReportContents) -> str:
    """The whole page as one HTML text that needs no other file and no network.

    Raises:
        DataError: the scan's example images have another shape than its trigger.
    """
    return _environment().get_template("report.html").render(_view(contents))


def write_report(path: Path, contents: ReportContents) -> None:
    """Write :func:`render`'s page to ``path``, whole or not at all.

    Raises:
        DataError: see :func:`render`.
        OutputError: the file can't be written.
    """
    write_text(path, render(contents))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fedmend.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=words.percent,
        points=words.points,
        number=words.number,
        duration=words.duration,
        pixels=words.pixels,
    )
    return environment


@dataclass(frozen=True)
class _Metric:
    """One row of evidence: a value, its limit, and what the comparison says."""

    name: str
    value: str
    explanation: str
    finding: str
    tone: str
    chart: Markup


@dataclass(frozen=True)
class _Example:
    """A clean and a stamped image with the models' answers, in class names."""

    clean: str
    stamped: str
    true: str
    suspect_clean: str
    suspect_stamped: str
    reference_stamped: str
    flipped: bool
    reference_fooled: bool


@dataclass(frozen=True)
class _TriggerPictures:
    mask: str
    pattern: str
    size: float
    pixels: int
    shape: str


@dataclass(frozen=True)
class _Row:
    """One line of the before-and-after table."""

    name: str
    note: str
    before: float | None
    after: float | None


def _view(contents: ReportContents) -> dict[str, Any]:
    scan, repair, attack, pruning = contents.scan, contents.repair, contents.attack, contents.pruning
    names = scan.class_names if scan else ()
    return {
        "contents": contents,
        "scan": scan,
        "repair": repair,
        "attack": attack,
        "pruning": pruning_view(pruning, contents.prune_evaluation, names) if pruning else None,
        "verdict": words.VERDICTS[scan.verdict] if scan else None,
        "verdicts": words.VERDICTS,
        "outcome": words.OUTCOMES[repair.outcome] if repair else None,
        "attack_words": words.ATTACKS[attack.kind] if attack else None,
        "target": words.class_name(scan.target_class, names) if scan else None,
        "planted_target": words.class_name(attack.target_class, names) if attack else None,
        "recovered": _trigger_pictures(scan.trigger) if scan else None,
        "planted": _trigger_pictures(attack.trigger) if attack and attack.trigger else None,
        "heat_stops": ", ".join(pictures.HEAT_STOPS),
        "examples": _examples(scan) if scan else [],
        "metrics": _metrics(scan) if scan else [],
        "loss_chart": charts.loss_chart(scan.loss_curve) if scan else None,
        "rounds_chart": charts.rounds_chart(contents),
        "rows": _rows(contents),
        "warnings": [text for part in (scan, repair, pruning) if part for text in part.warnings],
        "settings": _settings(contents),
        "versions": contents.versions or _versions(contents),
    }


def _trigger_pictures(trigger: Patch) -> _TriggerPictures:
    _, height, width = trigger.mask.shape
    return _TriggerPictures(
        mask=pictures.heat_map(trigger.mask),
        pattern=pictures.weighted_pattern(trigger),
        size=trigger.size,
        pixels=height * width,
        shape=f"{width}\u2009×\u2009{height}",
    )


def _examples(scan: ScanReport) -> list[_Example]:
    shown = scan.examples
    if len(shown.images) == 0:
        return []
    images = shown.images[:MAX_EXAMPLES].float() / 255
    stamped = scan.trigger.to("cpu").apply(images)

    def name(classes: Tensor, index: int) -> str:
        return words.class_name(int(classes[index]), scan.class_names)

    return [
        _Example(
            clean=pictures.photo(images[index]),
            stamped=pictures.photo(stamped[index]),
            true=name(shown.labels, index),
            suspect_clean=name(shown.suspect_clean, index),
            suspect_stamped=name(shown.suspect_stamped, index),
            reference_stamped=name(shown.reference_stamped, index),
            flipped=int(shown.suspect_clean[index]) != int(shown.suspect_stamped[index]),
            reference_fooled=int(shown.reference_stamped[index])
            == scan.target_class
            != int(shown.labels[index]),
        )
        for index in range(len(images))
    ]


def _metrics(scan: ScanReport) -> list[_Metric]:
    limits = scan.thresholds
    fooled = scan.reasr > limits.reasr
    reasr_finding = _finding(fooled, scan.reasr, "Above the limit", "Not above the limit")
    mse_finding = _finding(scan.mse > limits.mse, scan.mse, "Above the limit", "Not above the limit")
    agreement_finding = _agreement_finding(scan, fooled)
    reasr = _Metric(
        name="Patch success (REASR)",
        value=words.percent(scan.reasr),
        explanation="Share of stamped images of other classes that the suspect sends to the target class.",
        chart=charts.share_bullet(
            "reasr", "Patch success", scan.reasr, limits.reasr, reasr_finding[1], suspicious_above=True
        ),
        finding=reasr_finding[0],
        tone=reasr_finding[1],
    )
    mse = _Metric(
        name="Feature change (MSE)",
        value=words.number(scan.mse),
        explanation="How far the patch moves the suspect’s features: squared length, averaged over the "
        "images. Logarithmic scale.",
        chart=charts.log_bullet("mse", "Feature change", scan.mse, limits.mse, mse_finding[1]),
        finding=mse_finding[0],
        tone=mse_finding[1],
    )
    agreement = _Metric(
        name="Reference agreement",
        value=words.percent(scan.reference_agreement),
        explanation="Share of the same stamped images that the reference sends there too. A patch that "
        "fools both models is no backdoor, only a strong picture of the class.",
        chart=charts.share_bullet(
            "agreement",
            "Reference agreement",
            scan.reference_agreement,
            limits.reference_agreement,
            agreement_finding[1],
            suspicious_above=False,
        ),
        finding=agreement_finding[0],
        tone=agreement_finding[1],
    )
    if scan.control_reasr is None:
        return [reasr, mse, agreement]
    control_finding = _control_finding(scan.control_reasr, limits.suspicion)
    control = _Metric(
        name="The other way round (control)",
        value=words.percent(scan.control_reasr),
        explanation="A shorter search with the models’ roles swapped, for a patch of at most twice the size: share of "
        "the stamped images that it sends to one class in the clean reference alone.",
        chart=charts.share_bullet(
            "control",
            "The other way round",
            scan.control_reasr,
            limits.suspicion,
            control_finding[1],
            suspicious_above=False,
        ),
        finding=control_finding[0],
        tone=control_finding[1],
    )
    return [reasr, mse, agreement, control]


def _finding(suspicious: bool, value: float, if_suspicious: str, otherwise: str) -> tuple[str, str]:
    """What a comparison says, and its tone."""
    if not math.isfinite(value):
        return "Not measured.", "unsure"
    if suspicious:
        return f"{if_suspicious}. Speaks for a backdoor.", "bad"
    return f"{otherwise}. Speaks against a backdoor.", "good"


def _control_finding(reasr: float, limit: float) -> tuple[str, str]:
    if reasr < limit:
        return "Below the limit: only the suspect can be fooled so. Speaks for a backdoor.", "bad"
    return "At or above the limit: the models differ both ways, which takes no backdoor.", "unsure"


def _agreement_finding(scan: ScanReport, suspect_fooled: bool) -> tuple[str, str]:
    low = scan.reference_agreement < scan.thresholds.reference_agreement
    if low and not suspect_fooled:
        return (
            "Below the limit, but the patch doesn’t fool the suspect either. Says nothing by itself.",
            "unsure",
        )
    return _finding(
        low,
        scan.reference_agreement,
        "Below the limit: the reference isn’t fooled",
        "At or above the limit: the reference is fooled too",
    )


def _rows(contents: ReportContents) -> list[_Row]:
    rows = []
    if repair := contents.repair:
        images = f"on {repair.num_heldout:,} held-out images"
        rows += [
            _Row("Clean accuracy", images, repair.accuracy_before, repair.accuracy_after),
            _Row("Recovered trigger’s success", images, repair.reasr_before, repair.reasr_after),
        ]
    if attack := contents.attack:
        images = f"on {attack.num_images:,} test images" if attack.num_images else "on test images"
        rows += [
            _Row(
                "Attacker’s own trigger’s success (ASR)",
                f"known only in a simulation; {images}",
                attack.asr_before,
                attack.asr_after,
            ),
            _Row(
                "Clean accuracy, measured with the attack",
                images,
                attack.accuracy_before,
                attack.accuracy_after,
            ),
        ]
    return [row for row in rows if row.before is not None or row.after is not None]


def _versions(contents: ReportContents) -> Mapping[str, str]:
    made = contents.scan or contents.pruning
    return made.versions if made else {}


def _settings(contents: ReportContents) -> list[tuple[str, list[tuple[str, str]]]]:
    groups = []
    if scan := contents.scan:
        about = {"method": scan.method, "seed": scan.seed, "device": scan.device}
        groups.append(("Scan", list(words.flatten({**about, **scan.settings}))))
    if repair := contents.repair:
        groups.append(("Repair", list(words.flatten({"method": repair.method, **repair.settings}))))
    if contents.pruning:
        groups.append(("Pruning", pruning_settings(contents.pruning)))
    if contents.settings:
        groups.append(("Simulation", list(words.flatten(contents.settings))))
    return groups
