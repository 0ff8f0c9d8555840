"""Print every benchmark's targets from the results files alone: one line each, met or missed.

    python benchmarks/results.py            # or: make results
    python benchmarks/results.py --json     # the same as JSON
    python benchmarks/results.py --write    # and renew the generated sections of READMEs and docs

A benchmark is a folder here with a ``targets.py`` (``targets()``, its list of :class:`Target`) and a ``tables.py``
(``tables()``, the Markdown of its README's generated section); its name is added to ``BENCHMARKS`` below.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = (
    "detection",
    "pruning",
    "speed",
    "acceleration",
    "zoo",
    "guard",
    "rivals",
    "rival_repairs",
    "aggregation",
    "contest",
    "attacks",
    "paper_a",
)
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADLINES = (  # what the README shows: two of the targets that matter most to a user, and a miss
    "patches up to 8x8 and atoms, ASR at least 80 %",
    "honest models called backdoored",
    "mnist-convnet, time per scan against Neural Cleanse",
)

Status = Literal["met", "missed", "incomplete", "not run", "no target"]


@dataclass(frozen=True)
class Target:
    """One line: what was aimed at and what was measured, on ``n`` of ``planned`` models.

    The status "no target" marks a line that only informs.
    """

    benchmark: str
    name: str
    target: str
    measured: str
    n: int
    planned: int
    status: Status


def judge(holds: bool, n: int, planned: int) -> Status:
    """Met only if it holds on everything that was planned; a miss is one at once."""
    if n == 0:
        return "not run"
    if not holds:
        return "missed"
    return "met" if n == planned else "incomplete"


def proportion(count: int, n: int) -> str:
    """``count`` of ``n`` with the exact 95 % interval of the rate behind it (Clopper and Pearson), in percent."""
    if not n:
        return "0 of 0"
    interval = binomtest(count, n).proportion_ci(0.95, "exact")
    return f"{count} of {n} (95 % interval {100 * interval.low:.0f} to {100 * interval.high:.0f} %)"


def markdown(rows: Sequence[Sequence[str]], *, right: str = "") -> str:
    """A Markdown table; its first row is the head. ``right`` holds an "r" for each column aligned to the right."""
    columns = len(rows[0])
    rule = ["---:" if side == "r" else "---" for side in right.ljust(columns)[:columns]]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def collect() -> list[Target]:
    """The targets of all benchmarks."""
    return [target for name in BENCHMARKS for target in import_module(f"benchmarks.{name}.targets").targets()]


def lines(targets: Sequence[Target]) -> list[str]:
    """The targets as aligned text: name, target, measured, n, status."""
    rows = [
        (
            f"{each.benchmark}: {each.name}",
            each.target,
            each.measured,
            f"n {each.n}/{each.planned}",
            each.status,
        )
        for each in targets
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def table(targets: Sequence[Target]) -> str:
    """The targets as a Markdown table; what isn't met stands out."""
    rows: list[Sequence[str]] = [("What", "Target", "Measured", "n", "")]
    for each in targets:
        status = each.status if each.status in ("met", "no target") else f"**{each.status}**"
        name = f"{each.benchmark}: {each.name}"
        rows.append((name, each.target, each.measured, f"{each.n} of {each.planned}", status))
    return markdown(rows)


def headlines(targets: Sequence[Target]) -> list[Target]:
    """The README's lines, in the order of ``HEADLINES``."""
    named = {each.name: each for each in targets}
    return [named[name] for name in HEADLINES]


def sections() -> dict[Path, str]:
    """What the generated section of each page should hold."""
    tables = {
        ROOT / "benchmarks" / name / "README.md": import_module(f"benchmarks.{name}.tables").tables()
        for name in BENCHMARKS
    }
    found = collect()
    return {
        ROOT / "README.md": table(headlines(found)),
        ROOT / "docs" / "explanation" / "results.md": table(found),
    } | tables


def with_section(text: str, body: str) -> str:
    """The text with what stands between the markers replaced.

    Raises:
        ValueError: the text hasn't got the two markers, once each and in this order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"no section from {BEGIN} to {END}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.split(END)[1]}"


def write() -> None:
    """Renew the generated sections."""
    for path, body in sections().items():
        try:
            path.write_text(with_section(path.read_text(encoding="utf-8"), body), encoding="utf-8")
        except (OSError, ValueError) as error:
            sys.exit(f"{path}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--write", action="store_true", help="renew the generated sections of READMEs and docs"
    )
    options = parser.parse_args()
    if options.write:
        write()
    targets = collect()
    print(json.dumps(list(map(asdict, targets)), indent=1) if options.json else "\n".join(lines(targets)))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from benchmarks.results import main  # so that the targets' Target and this file's are one class

    main()
