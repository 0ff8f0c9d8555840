"""The page's view of a scan's findings: measures, targets, recovered triggers and examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from torch import Tensor

from fedmend.detection.base import Finding, Measure, Target
from fedmend.detection.scan_report import Examples, ScanReport
from fedmend.pages import charts, pictures, words

MAX_EXAMPLES = 8
MAX_PICTURED = 6


@dataclass(frozen=True)
class MeasureView:
    """A measure in words, and its chart if it has one."""

    name: str
    value: str
    limit: str | None
    explanation: str
    reading: str
    tone: str
    chart: Markup | None
    logarithmic: bool


@dataclass(frozen=True)
class TargetView:
    """Source and target classes, and the recovered trigger if there is one; ``variants`` counts further ones.

    ``success`` is None if the detector names a class without a trigger.
    """

    sources: str
    target: str
    success: float | None
    trigger: pictures.TriggerPictures | None
    variants: int


@dataclass(frozen=True)
class Example:
    """A clean and a stamped image with the models' predictions as class names; None if unknown."""

    clean: str
    stamped: str
    true: str | None
    suspect_clean: str
    suspect_stamped: str
    reference_stamped: str | None
    flipped: bool


@dataclass(frozen=True)
class ExampleGroup:
    """Examples of one target's trigger."""

    sources: str
    target: str
    images: list[Example]


@dataclass(frozen=True)
class FindingView:
    """One detector's section.

    Attributes:
        key: the prefix of its ids on the page.
        wording: of its verdict. disagrees: whether the scan's verdict differs.
        suspicious, limit: the detector's one number and its limit.
        targets: the first few, shown with pictures; all_targets: all of them.
        examples: a group for each target that has some.
        poisoned: the numbers of the images that the detector calls poisoned; empty if it calls none so.
    """

    key: str
    finding: Finding
    wording: words.Wording
    disagrees: bool
    suspicious: str
    limit: str
    measures: list[MeasureView]
    targets: list[TargetView]
    all_targets: list[TargetView]
    examples: list[ExampleGroup]
    loss_chart: Markup | None
    poisoned: str

    @property
    def pictured(self) -> bool:
        """Whether the section shows a recovered trigger."""
        return any(target.trigger for target in self.targets)

    @property
    def masked(self) -> bool:
        """Whether one of the pictures is a mask."""
        return any(target.trigger and target.trigger.masked for target in self.targets)


def finding_views(scan: ScanReport) -> list[FindingView]:
    """The sections of all findings, in order.

    Raises:
        DataError: the example images have another shape than the recovered trigger.
    """
    return [_view(f"finding-{index}", finding, scan) for index, finding in enumerate(scan.findings, start=1)]


def _view(key: str, finding: Finding, scan: ScanReport) -> FindingView:
    pictured = finding.targets[:MAX_PICTURED]
    return FindingView(
        key=key,
        finding=finding,
        wording=words.verdict(finding.verdict, compared=not scan.scope),
        disagrees=finding.verdict != scan.verdict,
        suspicious=words.number(finding.suspicious),
        limit=words.number(finding.limit),
        measures=[_measure(f"{key}-chart-{at}", each) for at, each in enumerate(finding.measures, start=1)],
        targets=[_target(target, scan.class_names, with_pictures=True) for target in pictured],
        all_targets=[_target(target, scan.class_names, with_pictures=False) for target in finding.targets],
        examples=_examples(finding, scan),
        loss_chart=charts.loss_chart(f"{key}-loss", finding.loss_curve),
        poisoned=", ".join(map(str, finding.poisoned)),
    )


def _measure(key: str, measure: Measure) -> MeasureView:
    chart = charts.bullet(key, measure)
    limit = None if measure.limit is None else words.limit(measure.limit, measure.scale)
    return MeasureView(
        name=measure.name,
        value=words.measured(measure.value, measure.scale),
        limit=None if limit is None else f"suspicious {measure.suspicious_when} {limit}",
        explanation=measure.explanation,
        reading=measure.reading,
        tone=words.TONES[measure.tone],
        chart=chart,
        logarithmic=chart is not None and measure.scale == "log",
    )


def _target(target: Target, names: Sequence[str], *, with_pictures: bool) -> TargetView:
    shown = with_pictures and target.trigger is not None
    return TargetView(
        sources=words.class_list(target.sources, names),
        target=words.class_name(target.target, names),
        success=None if math.isnan(target.success) else target.success,
        trigger=pictures.trigger_pictures(target.trigger) if shown and target.trigger else None,
        variants=len(target.variants),
    )


def _examples(finding: Finding, scan: ScanReport) -> list[ExampleGroup]:
    names, groups = scan.class_names, []
    for shown in scan.examples:
        if (
            shown.detector != finding.detector
            or shown.number >= len(finding.targets)
            or not len(shown.images)
        ):
            continue
        target = finding.targets[shown.number]
        if target.trigger is None:
            continue
        images = shown.images[:MAX_EXAMPLES].float() / 255
        pairs = zip(images, target.trigger.to("cpu").apply(images), strict=True)
        groups.append(
            ExampleGroup(
                words.class_list(target.sources, names),
                words.class_name(target.target, names),
                [_example(shown, index, pair, names) for index, pair in enumerate(pairs)],
            )
        )
    return groups


def _example(shown: Examples, index: int, pair: tuple[Tensor, Tensor], names: Sequence[str]) -> Example:
    def name(classes: Tensor) -> str:
        return words.class_name(int(classes[index]), names)

    return Example(
        clean=pictures.photo(pair[0]),
        stamped=pictures.photo(pair[1]),
        true=None if shown.labels is None else name(shown.labels),
        suspect_clean=name(shown.suspect_clean),
        suspect_stamped=name(shown.suspect_stamped),
        reference_stamped=None if shown.reference_stamped is None else name(shown.reference_stamped),
        flipped=int(shown.suspect_clean[index]) != int(shown.suspect_stamped[index]),
    )
