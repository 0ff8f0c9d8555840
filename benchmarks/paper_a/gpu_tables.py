"""What ``gpu.sh`` measured on a lent GPU, from results/gpu/."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.commits import short
from benchmarks.paper_a.lines import RESULTS, Line, asr_after, found, rate, worst
from benchmarks.results import markdown


def load(results: Path = RESULTS) -> tuple[list[Line], list[Line]]:
    """The lines of the models, and those of the timed scans; a dry run's are elsewhere."""
    models, times = results / "gpu" / "models.jsonl", results / "gpu" / "times.jsonl"
    both = [
        path.read_text(encoding="utf-8").splitlines() if path.exists() else [] for path in (models, times)
    ]
    return [json.loads(line) for line in both[0]], [json.loads(line) for line in both[1]]


def tables(results: Path = RESULTS) -> str:
    """Times per scan, and what was found and repaired at the paper's full scale."""
    models, times = load(results)
    if not models and not times:
        return "### Full scale on a GPU\n\n**Not run.** `gpu.sh` is prepared for whoever has a device."
    parts = ["### Full scale on a GPU"]
    rows = [("Scan", "device", "seconds", "first scan, seconds", "verdict", "commit")]
    rows += [
        (
            *(line["network"], line["device"], f"{line['seconds']:.2f}", f"{line['first_seconds']:.2f}"),
            *(line["verdict"], f"`{short(line['commit'])}`"),
        )
        for line in times
    ]
    parts += [markdown(rows, right="  rr")] if times else []
    rows = [("Models", "method", "called backdoored", "ASR after repair", "commit")]
    for key in sorted({(line["scale"], line["kind"], line["method"]) for line in models}):
        some = [line for line in models if (line["scale"], line["kind"], line["method"]) == key]
        after = worst([asr_after(line) for line in some]) if key[1] != "clean" else "–"
        rows.append(
            (
                f"{key[0]}, {key[1]}",
                key[2],
                rate(found(some), len(some)),
                after,
                f"`{short(some[0]['commit'])}`",
            )
        )
    return "\n\n".join([*parts, markdown(rows)] if models else parts)
