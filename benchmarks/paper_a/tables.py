"""The generated section of this benchmark's README, from results/ alone."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from benchmarks.commits import short
from benchmarks.paper_a import gpu_tables, paper, readings_table, study_tables
from benchmarks.paper_a.lines import (
    KINDS,
    MEAN,
    NONE,
    OURS,
    PAPER,
    PLANNED,
    RESULTS,
    Line,
    accuracy_after,
    asr_after,
    found,
    load,
    named,
    of,
    rate,
    spread,
    worst,
)
from benchmarks.paper_a.scales import SCALES, Scale
from benchmarks.paper_a.targets import targets
from benchmarks.results import markdown, table

ATTACKS = ("sba", "dba")
FOLDER = Path(__file__).parent


def tables(results: Path = RESULTS) -> str:
    """Everything between the markers: targets, readings, and each scale's tables."""
    parts = ["### Targets", table(targets(results)), readings_table.tables(results)]
    for scale in SCALES.values():
        lines = load(scale.name, results)
        if not lines:
            parts.append(f"### {scale.label}\n\n**Not run.**")
            continue
        parts += [f"### {scale.label}", _origin(lines), planted(scale, lines), detected(scale, lines)]
        parts += [patched(scale, lines), *study_tables.tables(lines), *pictures(scale)]
    return "\n\n".join([*parts, gpu_tables.tables(results)])


def pictures(scale: Scale) -> list[str]:
    """Figures 2 and 3, if they were drawn."""
    shown = {2: "planted triggers", 3: "recovered triggers, mask times pattern: SBA above, DBA below"}
    names = {number: f"figures/figure-{number}-{scale.name}.svg" for number in shown}
    return [
        f"Figure {number}: {shown[number]}.\n\n![Figure {number}: {shown[number]}]({name})"
        for number, name in names.items()
        if (FOLDER / name).exists()
    ]


def _origin(lines: list[Line]) -> str:
    models = {kind: len({line["name"] for line in of(lines, PAPER, study=kind)}) for kind in KINDS}
    counts = ", ".join(f"{n} of {PLANNED} {kind}" for kind, n in models.items())
    gap = "" if all(n == PLANNED for n in models.values()) else "**Incomplete**: "
    commits = ", ".join(sorted({f"`{short(line['commit'])}`" for line in lines}))
    return f"{gap}{counts} models have a scan by the paper's method. Commits: {commits}."


def planted(scale: Scale, lines: list[Line]) -> str:
    """Table 2, with the ASR in the clean reference, which the paper gives for one row alone."""
    theirs = paper.PLANTED[scale.dataset]
    rows = [("Table 2", "accuracy, paper", "accuracy", "ASR, paper", "ASR", "ASR in the reference", "n")]
    models = {line["name"]: line for line in lines if line["level"] is None}.values()
    attacked = [line for line in models if line["study"] in ATTACKS]
    reference = [100 * line["reference_accuracy"] for line in attacked[:1]]
    rows.append(
        ("base model", f"{theirs['reference']:.2f}", spread(reference), NONE, NONE, NONE, str(len(reference)))
    )
    for kind in ATTACKS:
        some = [line for line in attacked if line["study"] == kind]
        accuracy, asr = theirs[kind]
        rows.append(
            (
                *(kind.upper(), f"{accuracy:.2f}", spread([100 * line["accuracy"] for line in some])),
                *(f"{asr:.2f}", spread([100 * line["asr"] for line in some])),
                *(spread([100 * line["reference_asr"] for line in some]), str(len(some))),
            )
        )
    return markdown(rows, right=" rrrrrr")


def detected(scale: Scale, lines: list[Line]) -> str:
    """Table 4, with false alarms and, for the attacked ones, how many have the right target class."""
    rows = [("Table 4: called backdoored", "SBA, paper", "SBA", "DBA, paper", "DBA", "clean", "target right")]
    for method in (PAPER, MEAN, OURS, *(each for each in paper.METHODS if each != PAPER)):
        theirs = paper.DETECTED[scale.dataset].get(method)
        some = {kind: of(lines, method, study=kind) for kind in KINDS}
        row = [_name(method)]
        for kind in ATTACKS:
            row += [f"{theirs[kind]} %" if theirs else NONE, rate(found(some[kind]), len(some[kind]))]
        both = [*some["sba"], *some["dba"]]
        row += [
            rate(found(some["clean"]), len(some["clean"])),
            f"{named(both)}/{len(both)}" if both else NONE,
        ]
        rows.append(tuple(row))
    return markdown(rows)


def patched(scale: Scale, lines: list[Line]) -> str:
    """Table 3, a row a method and attack."""
    head = ("Table 3", "", "accuracy, paper", "accuracy", "ASR, paper", "ASR", "no trigger or no release")
    rows = [(*head, "seconds, paper", "CPU seconds", "speed-up, paper", "speed-up", "n")]
    for kind in ATTACKS:
        base = _seconds(of(lines, "neural-cleanse", study=kind))
        for method in ("neural-cleanse", "tabor", "deep-inspect", PAPER, MEAN, OURS):
            some = of(lines, method, study=kind)
            theirs = paper.PATCHED[scale.dataset].get(method)
            seconds = _seconds(some)
            after = [value for line in some if (value := accuracy_after(line)) is not None]
            paper_base = paper.PATCHED[scale.dataset]["neural-cleanse"][kind][2]
            rows.append(
                (
                    *(_name(method), kind.upper()),
                    *(f"{theirs[kind][0]:.2f}" if theirs else NONE, spread(after)),
                    *(f"{theirs[kind][1]:g}" if theirs else NONE, worst([asr_after(line) for line in some])),
                    str(len(some) - len(after)),
                    *(f"{theirs[kind][2]:.1f}" if theirs else NONE, f"{seconds:.1f}" if seconds else NONE),
                    f"{paper_base / theirs[kind][2]:.2f}" if theirs else NONE,
                    f"{base / seconds:.2f}" if base and seconds else NONE,
                    str(len(some)),
                )
            )
    return markdown(rows, right="  rrrrrrrrrr")


def _seconds(lines: list[Line]) -> float | None:
    return mean(line["cpu_seconds"] for line in lines) if lines else None


def _name(method: str) -> str:
    return {PAPER: "the paper's, as written", MEAN: "the paper's, L1 mean", OURS: "fedmend"}.get(
        method
    ) or paper.METHODS[method]
