"""The generated section of this benchmark's README: a row a repair, then a row a repair and model."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, median

from benchmarks.results import markdown
from benchmarks.rival_repairs.targets import METHODS, MODELS, RESULTS, Line, left, load, lost

NONE = "–"


def tables(results: Path = RESULTS) -> str:
    """Everything between the markers."""
    lines = load(results)
    if not lines:
        return "**Not measured yet.**"
    rows: list[tuple[str, ...]] = [
        ("Repair", "Models", "Released", "ASR, mean (largest)", "Accuracy lost, points", "CPU time, s")
    ]
    rows += [_summary(name, each) for name, each in lines.items()]
    count, planned = sum(map(len, lines.values())), METHODS * MODELS
    missing = [f"**Incomplete: {count} of {planned} pairs of a repair and a model are measured.**"]
    models = list(dict.fromkeys(_model(line) for each in lines.values() for line in each))
    detail: list[tuple[str, ...]] = [("Repair", *models)]
    detail += [
        (name, *(next((_cell(line) for line in each if _model(line) == model), NONE) for model in models))
        for name, each in lines.items()
    ]
    return "\n\n".join(
        [
            *(missing if count < planned else []),
            markdown(rows, right="lrrrrr"),
            _origin(lines),
            markdown(detail),
        ]
    )


def _summary(name: str, lines: list[Line]) -> tuple[str, ...]:
    rates, losses = [left(line) for line in lines], [lost(line) for line in lines]
    released = sum(line["outcome"] == "repaired" for line in lines)
    return (
        name,
        str(len(lines)),
        str(released),
        f"{mean(rates):.1%} ({max(rates):.1%})".replace("%", " %"),
        f"{100 * mean(losses):.1f} ({100 * max(losses):.1f})",
        f"{median(line['method_seconds'] for line in lines):.1f}",
    )


def _cell(line: Line) -> str:
    """ASR before and after, the change of the accuracy in points, and the outcome."""
    before = max(line["asr"]["suspect"])
    after = f"{before:.0%} → {left(line):.1%}".replace("%", " %")
    change = round(-100 * lost(line), 1) + 0.0  # never -0.0
    return f"{after}, {change:+.1f}, {line['outcome']}"


def _model(line: Line) -> str:
    return f"{line['cell']} {line['family']}"


def _origin(lines: dict[str, list[Line]]) -> str:
    every = [line for each in lines.values() for line in each]
    commits = ", ".join(sorted({f"`{line['commit']}`" for line in every}))
    machines = "; ".join(sorted({line["machine"].removesuffix(", 1 scans at a time") for line in every}))
    torches = ", ".join(sorted({line["torch"] for line in every}))
    return f"Commit {commits}; torch {torches}; {machines}, one thread."
