"""The generated section of the benchmark's README."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import markdown, table
from benchmarks.speed.targets import RESULTS, load, slope, targets


def tables(results: Path = RESULTS) -> str:
    """Everything between the markers."""
    parts = ["### Targets", table(targets(results))]
    parts += startup(load("startup", results))
    parts += growth(load("growth", results))
    return "\n\n".join([*parts, *engines(load("engines", results))])


def startup(file: dict[str, Any]) -> list[str]:
    """From the shell to the first step of a scan, beside importing torch."""
    if not file:
        return []
    lines: list[tuple[str, ...]] = [("From the shell", "least", "median")]
    for name, key in (
        ("importing torch", "torch_seconds"),
        ("a scan", "scan_seconds"),
        ("the scan's own report of its time", "report_seconds"),
        ("start-up", "extra_seconds"),
    ):
        lines.append((name, *(f"{file[key][which]:.2f} s" for which in ("min", "median"))))
    machine = file["machine"]
    told = (
        '`python -c "import torch"` and `fedmend scan --effort quick` of an MNIST model, taking turns, n '
        f"{file['n']}, on {machine['processor']}, {machine['cores']} cores, with a load of {machine['load']:.1f}."
    )
    return ["### Start-up", told, markdown(lines, right=" rr")]


def growth(file: dict[str, Any]) -> list[str]:
    """How time and memory grow."""
    if not file:
        return []
    lines: list[tuple[str, ...]] = [("Axis", "values", "seconds per scan", "memory, MiB", "exponent of time")]
    for axis, rows in file["axes"].items():
        key = "parameters" if axis == "width" else axis
        lines.append(
            (
                {"size": "image side", "width": "model's width"}.get(axis, axis),
                ", ".join(f"{row[axis]:,}" for row in rows),
                ", ".join(f"{row['seconds']:.1f}" for row in rows),
                ", ".join(f"{row['memory_mib']:.0f}" for row in rows),
                f"{slope([(row[key], row['seconds']) for row in rows]):z.2f}"
                + (" of the parameters" if axis == "width" else ""),
            )
        )
    told = (
        "The default scan of an 18-layer residual network with a 7x7 stem, on as many images as the command line "
        f"draws; medians of {file['repeats']} scans on {file['machine']}, in seconds of the processor, torch "
        f"{file['torch']}. The exponent is that of the best-fitting power law."
    )
    return ["### Growth", told, markdown(lines)]


def engines(file: dict[str, Any]) -> list[str]:
    """The simulator beside Flower's."""
    if not file:
        return []
    lines: list[tuple[str, ...]] = [
        ("Federation", "engine", "samples per second", "accuracy", "times Flower's")
    ]
    for name, found in ((key, value) for key, value in file.items() if "turns" in value):
        turns = found["turns"]
        for engine in turns[0]:
            each = [turn[engine]["samples_per_second_of_rounds"] for turn in turns]
            others = [
                mine / turn["flower"]["samples_per_second_of_rounds"]
                for mine, turn in zip(each, turns, strict=True)
            ]
            spread = f"{median(others):.2f} ({min(others):.2f} to {max(others):.2f}, n {len(others)})"
            lines.append(
                (
                    f"{name}, {found['settings']['federation']['rounds']} rounds",
                    engine,
                    f"{median(each):,.0f}",
                    f"{median(turn[engine]['accuracy'] for turn in turns):.1%}",
                    "–" if engine == "flower" else spread,
                )
            )
    told = f"Rounds only, the engines taking turns, on {file['machine']}; medians."
    return ["### The simulator beside Flower's engine", told, markdown(lines, right="  rrr")]
