"""The readings of the paper's text as a table, from results/readings.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

from benchmarks.commits import short
from benchmarks.paper_a.lines import NONE, RESULTS, Line
from benchmarks.paper_a.paper import MSE, REASR
from benchmarks.results import markdown


def tables(results: Path = RESULTS) -> str:
    """A table a cell of the zoo, a row a reading."""
    path = results / "readings.jsonl"
    lines = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )
    if not lines:
        return "### Readings of the text\n\n**Not run.**"
    parts = ["### Readings of the text"]
    for cell in sorted({line["cell"] for line in lines}, reverse=True):
        some = [line for line in lines if line["cell"] == cell]
        commits = ", ".join(sorted({f"`{short(line['commit'])}`" for line in some}))
        parts += [f"{cell}, commits {commits}:", of_cell(some)]
    return "\n\n".join(parts)


def of_cell(lines: list[Line]) -> str:
    """The table of one cell."""
    rows = [
        (
            "Reading",
            "found",
            "right class",
            "MSE",
            "REASR",
            "mask, pixels",
            "IoU",
            "false alarms",
            "MSE",
            "REASR",
            "mask",
        )
    ]
    for name in dict.fromkeys(line["reading"] for line in lines):
        some = [line for line in lines if line["reading"] == name]
        attacked = [line for line in some if line["kind"] == "backdoored"]
        clean = [line for line in some if line["kind"] == "clean"]
        rows.append(
            (
                name,
                f"{sum(map(is_found, attacked))}/{len(attacked)}",
                f"{sum(line['found'] == line['target'] for line in attacked)}/{len(attacked)}",
                *_means(attacked),
                _mean([line["iou"] for line in attacked if line["iou"] is not None], 2),
                f"{sum(map(is_found, clean))}/{len(clean)}",
                *_means(clean),
            )
        )
    return markdown(rows, right="   rrrr rrr")


def is_found(line: Line) -> bool:
    """Whether both of the paper's thresholds are exceeded."""
    return bool(line["mse"] > MSE and line["reasr"] > REASR)


def _means(lines: list[Line]) -> tuple[str, str, str]:
    """Mean MSE, REASR and mask size."""
    reasr = _mean([100 * line["reasr"] for line in lines], 0)
    return (
        _mean([line["mse"] for line in lines], 1),
        NONE if reasr == NONE else f"{reasr} %",
        _mean([line["size"] for line in lines], 1),
    )


def _mean(values: list[float], digits: int) -> str:
    return f"{mean(values):.{digits}f}" if values else NONE
