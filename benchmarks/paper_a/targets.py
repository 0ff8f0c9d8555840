"""What is aimed at beside the contrastive paper's figures; from results/ alone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.paper_a import gpu_tables
from benchmarks.paper_a.lines import (
    KINDS,
    OURS,
    PLANNED,
    RESULTS,
    Line,
    accuracy_after,
    asr_after,
    found,
    load,
    of,
    rate,
    worst,
)
from benchmarks.paper_a.scales import SCALES
from benchmarks.results import Target, judge

MAX_ASR = 1.0
MAX_LOST = 0.3
SCAN_SECONDS = {"resnet18": 0.5, "resnet34, 43 classes": 1.0}
SQUARES = 12
LEVELS = 7


def targets(results: Path = RESULTS) -> list[Target]:
    """The lines of every scale, and those of the GPU."""
    made = []
    for scale in SCALES.values():
        lines = load(scale.name, results)
        made += [target for kind in KINDS for target in _table_4(scale.name, kind, lines)]
        made += [_lost(scale.name, lines), _squares(scale.name, lines), _references(scale.name, lines)]
    _, times = gpu_tables.load(results)
    return made + [_timed(network, limit, times) for network, limit in SCAN_SECONDS.items()]


def _table_4(scale: str, kind: str, lines: list[Line]) -> list[Target]:
    """Detection or false alarms, and the ASR after repair, of one kind of models."""
    some = of(lines, OURS, study=kind)
    count, n = found(some), len(some)
    wanted = 0 if kind == "clean" else n
    name = "honest models called backdoored" if kind == "clean" else f"{kind.upper()} called backdoored"
    aim = "none" if kind == "clean" else "all"
    made = [_target(f"{scale}, {name}", aim, rate(count, n), (n, PLANNED), holds=count == wanted)]
    if kind != "clean":
        rates = [asr_after(line) for line in some]
        holds = max(rates, default=0.0) <= MAX_ASR
        made.append(
            _target(
                f"{scale}, {kind.upper()}, ASR after repair",
                f"each at most {MAX_ASR:g} %",
                f"{worst(rates)} %",
                (n, PLANNED),
                holds=holds,
            )
        )
    return made


def _lost(scale: str, lines: list[Line]) -> Target:
    """Accuracy that fedmend's repair costs, in points; a model that isn't released counts as a miss."""
    some = [line for line in of(lines, OURS) if line["study"] in ("sba", "dba")]
    lost = [100 * line["accuracy"] - after for line in some if (after := accuracy_after(line)) is not None]
    holds = len(lost) == len(some) and max(lost, default=0.0) <= MAX_LOST
    refused = len(some) - len(lost)
    said = f"{worst(lost)} points" + (f", {refused} not released" if refused else "")
    return _target(
        f"{scale}, accuracy lost by repair",
        f"each at most {MAX_LOST:g} points",
        said,
        (len(some), 2 * PLANNED),
        holds=holds,
    )


def _squares(scale: str, lines: list[Line]) -> Target:
    rates = [asr_after(line) for line in of(lines, OURS, study="size")]
    return _target(
        f"{scale}, white squares up to 12x12, ASR after repair",
        f"each at most {MAX_ASR:g} %",
        f"{worst(rates)} %",
        (len(rates), SQUARES),
        holds=max(rates, default=0.0) <= MAX_ASR,
    )


def _references(scale: str, lines: list[Line]) -> Target:
    """Verdicts with references of 40 to 89 %."""
    weak = [line for line in lines if line["level"] is not None and line["method"] == OURS]
    right = sum(line["verdict"] == ("clean" if line["kind"] == "clean" else "backdoored") for line in weak)
    return _target(
        f"{scale}, references of 40 % accuracy and more, right verdicts",
        "all",
        rate(right, len(weak)),
        (len(weak), 2 * LEVELS),
        holds=right == len(weak),
    )


def _timed(network: str, limit: float, times: list[Line]) -> Target:
    own = [line["seconds"] for line in times if line["network"] == network]
    return _target(
        f"default scan of {network} on a GPU",
        f"under {limit:g} s",
        f"{max(own, default=0.0):.2f} s",
        (len(own), 1),
        holds=max(own, default=0.0) < limit,
    )


def _target(name: str, aim: str, said: str, n: tuple[int, int], *, holds: bool) -> Target:
    """A line, which says so where nothing was measured."""
    return Target("paper_a", name, aim, said if n[0] else "not measured yet", *n, judge(holds, *n))
