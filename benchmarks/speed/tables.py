"""The generated section of the benchmark's README."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import markdown, table
from benchmarks.speed.targets import MODELS, RATIOS, RESULTS, load, ratios, slope, targets

SHORT = {"tabor": "TABOR", "deep-inspect": "DeepInspect"}


def tables(results: Path = RESULTS) -> str:
    """Everything between the markers."""
    parts = ["### Targets", table(targets(results))]
    parts += compared(load("compare", results))
    parts += verdicts(load("verdicts", results))
    parts += startup(load("startup", results))
    parts += floor(load("floor", results))
    parts += growth(load("growth", results))
    return "\n\n".join([*parts, *engines(load("engines", results))])


def compared(file: dict[str, Any]) -> list[str]:
    """Time, verdict and memory beside the yardsticks'."""
    if not file:
        return []
    head = ("Model", "fedmend", "Neural Cleanse", "ratios", "memory, MiB", "TABOR", "DeepInspect")
    lines: list[tuple[str, ...]] = [head]
    for dataset in RATIOS:
        found = file.get(dataset, {})
        for name in MODELS:
            if not found.get(name):
                continue
            turns = found[name]
            ours, theirs = ([turn[key] for turn in turns] for key in ("fedmend", "neural-cleanse"))
            each = ratios(turns)
            lines.append(
                (
                    f"{dataset}, {name}",
                    f"{median(line['scan_seconds'] for line in ours):.2f} s: {ours[0]['verdict']}",
                    f"{seconds(theirs)}: {theirs[0]['verdict'] or 'not run to a verdict'}",
                    f"{median(each):.0f} ({min(each):.0f} to {max(each):.0f}, n {len(each)})",
                    f"{median(line['memory_mib'] for line in ours):.0f} and "
                    f"{median(line['memory_mib'] for line in theirs):.0f}",
                    *(
                        f"{seconds([found[key]])}" if name == "backdoored" and key in found else "–"
                        for key in SHORT
                    ),
                )
            )
    told = (
        f"Medians; scans alternate with Neural Cleanse, on {file['machine']}. * extrapolated: TABOR and DeepInspect "
        "from a few epochs, Neural Cleanse on GTSRB from two classes that ran to their early stop."
    )
    return ["### Time to a verdict", told, markdown(lines, right=" rrrrrr")]


def seconds(lines: list[dict[str, Any]]) -> str:
    """The median, marked if it is extrapolated."""
    mark = "" if all(line["complete"] for line in lines) else "*"
    return f"{median(line['seconds'] for line in lines):,.0f} s{mark}"


def verdicts(file: dict[str, Any]) -> list[str]:
    """What scans of the colour models said, over seeds."""
    if not file:
        return []
    head = ("Models", "method", "right", "inconclusive", "wrong", "REASR", "mask, pixels", "seconds")
    lines: list[tuple[str, ...]] = [head]
    for world, models in ((key, value) for key, value in file.items() if isinstance(value, dict)):
        for name, methods in models.items():
            for method, scans in methods.items():
                right = sum(is_right(scan) for scan in scans)
                open_ones = sum(scan["verdict"] == "inconclusive" for scan in scans)
                shares = [scan["reasr"] for scan in scans]
                lines.append(
                    (
                        f"{world}, {name}",
                        method,
                        f"{right} of {len(scans)}",
                        f"{open_ones}",
                        f"{len(scans) - right - open_ones}",
                        f"{median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})",
                        f"{median(scan['mask_size'] for scan in scans):.0f}",
                        f"{median(scan['seconds'] for scan in scans):.1f}",
                    )
                )
    told = (
        "One scan per seed, each with other images. Right: it names the planted target class, or says clean "
        f"where nothing was planted. Medians and range, on {file['machine']}, torch {file['torch']}, beside other "
        "work. The search's settings were chosen on cifar10-development; cifar10 is the test."
    )
    return ["### Verdicts on CIFAR-10 over seeds", told, markdown(lines, right="  rrrrrr")]


def is_right(scan: dict[str, Any]) -> bool:
    """Backdoored with the planted target class, or clean where nothing was planted."""
    if scan["planted"] is None:
        return bool(scan["verdict"] == "clean")
    return bool(scan["verdict"] == "backdoored" and scan["target"] == scan["planted"])


def startup(file: dict[str, Any]) -> list[str]:
    """From the shell to a verdict, beside importing torch."""
    if not file:
        return []
    lines: list[tuple[str, ...]] = [("From the shell", "least", "median")]
    for name, key in (
        ("importing torch", "torch_seconds"),
        ("a scan", "scan_seconds"),
        ("the scan's extra time", "extra_seconds"),
        ("the same, of processors", "extra_processor_seconds"),
    ):
        lines.append((name, *(f"{file[key][which]:.2f} s" for which in ("min", "median"))))
    machine = file["machine"]
    told = (
        f'`python -c "import torch"` and `fedmend scan` of an MNIST model, taking turns, n {file["n"]}, on '
        f"{machine['processor']}, {machine['cores']} cores, with a load of {machine['load']:.1f}."
    )
    return ["### Start-up", told, markdown(lines, right=" rr")]


def floor(file: dict[str, Any]) -> list[str]:
    """Time per scan beside the least that its floating-point operations could take."""
    if not file:
        return []
    head = ("Model", "operations, 10^9", "best rate, 10^9 per second", "floor", "measured", "times the floor")
    lines: list[tuple[str, ...]] = [head]
    for name, row in file["models"].items():
        lines.append(
            (
                name,
                f"{row['operations'] / 1e9:,.1f}",
                f"{row['best_rate'] / 1e9:.0f}"
                + (", bfloat16" if row.get("precision") == "bfloat16" else ""),
                f"{row['floor_seconds']:.2f} s",
                f"{row['seconds']:.2f} s",
                f"{row['seconds'] / row['floor_seconds']:.1f}",
            )
        )
    told = (
        "Floating-point operations per scan (a multiply-add counts as two), at the rate of a product of "
        f"large matrices in the search's precision, on {file['machine']}, torch {file['torch']}."
    )
    return ["### The floor", told, markdown(lines, right=" rrrrr")]


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
        f"An 18-layer residual network with a 7x7 stem, 30 images; medians of {file['repeats']} scans on "
        f"{file['machine']}, torch {file['torch']}. The exponent is that of the best-fitting power law."
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
