"""A scan's result as the terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator

from fedmend.detection import ScanReport
from fedmend.detection.choosing import by_reason


def summary(report: ScanReport) -> str:
    """A scan's verdict and reason, several methods side by side, p-values, what it can't tell, and warnings."""
    weak = report.scope and report.verdict == "clean"
    lines = [f"{report.verdict.upper()}{' (weak evidence: no reference)' if weak else ''}. {report.reason}"]
    if report.agreement is not None:
        lines += [*_side_by_side(report), report.agreement.summary]
    lines += _left_out(report)
    for finding in report.findings:
        if finding.p_value is not None:
            lines.append(
                f"p-value: {finding.p_value:.2g}, how often an honest model would look at least this suspicious to "
                f"the detector {finding.detector}."
            )
    lines += [report.scope] if report.scope else []
    warnings = [*report.warnings, *(text for finding in report.findings for text in finding.warnings)]
    return "\n".join([*lines, *(f"Warning: {text}" for text in warnings)])


def _side_by_side(report: ScanReport) -> Iterator[str]:
    """A line for each finding: method, verdict, how suspicious it is, and the target."""
    rows = [
        (
            finding.detector,
            finding.verdict.upper(),
            f"{finding.suspicious:.3g} (limit {finding.limit:.3g})",
            ", ".join(_name(target.target, report.class_names) for target in finding.targets[:1])
            if finding.verdict != "clean"
            else "",
        )
        for finding in report.findings
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def _left_out(report: ScanReport) -> Iterator[str]:
    for reason, methods in by_reason(report.left_out).items():
        yield f"Left out: {', '.join(methods)} ({reason})."


def _name(index: int, class_names: tuple[str, ...]) -> str:
    return class_names[index] if index < len(class_names) else str(index)
