"""The generated section of this benchmark's README, from results/ alone.

python benchmarks/zoo/tables.py --split dev     # the same tables of the development split
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results import markdown, table
from benchmarks.zoo import repair_results
from benchmarks.zoo.more_tables import ablations, peers, places, without_a_reference, yardstick
from benchmarks.zoo.scans import (
    DEFAULT,
    EFFORT,
    FAMILIES,
    RESULTS,
    Scan,
    by,
    count,
    hits,
    is_backdoored,
    is_named,
    is_narrowed,
    is_right,
    load,
    path_of,
    planned,
    rate,
    strays,
)
from benchmarks.zoo.targets import SEEDS, agreeing, targets

NONE = "–"


def tables(results: Path = RESULTS, split: str = "test") -> str:
    """Everything between the markers."""
    every = load(path_of(split, DEFAULT, EFFORT, results=results))
    scans = [scan for scan in every if scan["seed"] == 0]
    parts = ["### Targets", table(targets(results))] if split == "test" else []
    plan = planned(split, results)
    total = sum(number for key, number in plan.items() if key != "both")
    if len(scans) < total or not total:
        parts.append(f"**Incomplete: {len(scans)} of {total} models of the split {split} have a scan.**")
    if not scans:
        return "\n\n".join(parts)
    backdoored, clean = ([scan for scan in scans if is_backdoored(scan) is kind] for kind in (True, False))
    parts += [
        origin(scans),
        "### Backdoored models, by family",
        attacked(backdoored),
        "### Backdoored models, by cell",
        crossed(backdoored, is_named),
        "Models found with their target (one-to-one: the pair; two: at least one) of all, by family and cell.",
        "### Honest pairs",
        honest(clean),
        "### Time",
        times(scans),
        *figures(split),
        *(places(backdoored, results) if split == "test" else []),
        *seeds(every),
        *repair_results.table(results),
        *both(load(path_of(split, DEFAULT, EFFORT, both=True, results=results), seed=0)),
        *peers(split, results),
        *without_a_reference(split, results),
        *yardstick(results),
        *ablations(split, results),
        "### Where it fails",
        failures(scans),
    ]
    return "\n\n".join(parts)


def origin(scans: Sequence[Scan]) -> str:
    """Where and with what it was measured."""
    commits, versions, machines = (
        ", ".join(f"`{key}` ({len(own)})" for (key,), own in by(scans, name).items())
        for name in ("commit", "torch", "machine")
    )
    return f"One scan a model, seed 0. Commits (scans): {commits}; torch {versions}; machine: {machines}."


def attacked(scans: Sequence[Scan]) -> str:
    """A row a family."""
    head = ("Family", "ASR", "found, target named", "every target named", '"clean"', "inconclusive")
    rows: list[tuple[str, ...]] = [
        (*head, "other targets named", "of all, named as of one source", "IoU of patches", "time")
    ]
    groups = by(scans, "family")
    named = [(family, groups[(family,)]) for family in FAMILIES if (family,) in groups]
    for family, own in [*named, ("all", list(scans))]:
        ious = [iou for scan in own for iou in scan["iou"] if iou is not None and is_named(scan)]
        rows.append(
            (
                family,
                spread([100 * asr for scan in own for asr in scan["asr"]], "%"),
                rate(sum(map(is_named, own)), len(own)),
                f"{sum(all(hits(scan)) for scan in own)} of {len(own)}",
                rate(count(own, "clean"), len(own)),
                rate(count(own, "inconclusive"), len(own)),
                f"{sum(strays(scan) > 0 for scan in own)} of {len(own)}",
                f"{sum(map(is_narrowed, own))} of {len(own)}",
                f"{median(ious):.2f} (n {len(ious)})" if ious else NONE,
                f"{median(scan['seconds'] for scan in own):.1f} s",
            )
        )
    told = (
        "ASR: median, least and greatest. IoU: median over the planted patches that were found. Times: medians of one "
        "thread. In brackets: exact 95 % intervals (Clopper and Pearson)."
    )
    return f"{markdown(rows, right=' r    rrrr')}\n\n{told}"


def crossed(scans: Sequence[Scan], rule: Callable[[Scan], bool]) -> str:
    """A row a family, a column a cell: how many fulfil a rule."""
    cells = sorted({scan["cell"] for scan in scans})
    groups = by(scans, "family", "cell")
    rows: list[tuple[str, ...]] = [("", *cells)]
    for family in FAMILIES:
        own = [groups.get((family, cell), []) for cell in cells]
        if any(own):
            rows.append((family, *(f"{sum(map(rule, each))}/{len(each)}" if each else NONE for each in own)))
    of_cell = by(scans, "cell")
    rows.append(("all", *(rate(sum(map(rule, of_cell[(cell,)])), len(of_cell[(cell,)])) for cell in cells)))
    return markdown(rows, right=" " + "r" * len(cells))


def honest(scans: Sequence[Scan]) -> str:
    """A row a family of honest pairs, one a cell, and one for all."""
    rows: list[tuple[str, ...]] = [("Pairs", "called backdoored", "inconclusive", "federations")]
    groups = [(family, own) for (family,), own in sorted(by(scans, "family").items())]
    groups += [(cell, own) for (cell,), own in sorted(by(scans, "cell").items())]
    for name, own in [*groups, ("all", list(scans))]:
        rows.append(
            (
                name,
                rate(count(own, "backdoored"), len(own)),
                rate(count(own, "inconclusive"), len(own)),
                str(len({scan["federation"] for scan in own})),
            )
        )
    return markdown(rows, right="   r")


def times(scans: Sequence[Scan]) -> str:
    """A row a cell."""
    head = ("Cell", "images", "honest: time", "longest", "passes")
    rows: list[tuple[str, ...]] = [(*head, "backdoored: time", "longest", "passes")]
    for (cell,), own in sorted(by(scans, "cell").items()):
        row = [cell, str(own[0]["images"])]
        for kind in (False, True):
            part = [scan for scan in own if is_backdoored(scan) is kind]
            if not part:
                row += [NONE] * 3
                continue
            seconds = [scan["seconds"] for scan in part]
            row += [f"{median(seconds):.1f} s", f"{max(seconds):.1f} s"]
            row.append(f"{median(scan['passes'] for scan in part):,.0f}")
        rows.append(tuple(row))
    told = "Medians of one thread. A pass is one image through one model, with its gradient in the search."
    return f"{markdown(rows, right=' rrrrrrr')}\n\n{told}"


def figures(split: str) -> list[str]:
    """What figures.py has drawn."""
    titles = {
        "roc": ("ROC of the lead", "Detection rate against false alarms"),
        "in-both": (
            "What noticing more backdoors in both models would cost",
            "Backdoors in both models noticed against honest pairs left inconclusive, by the limit",
        ),
    }
    drawn = []
    for name, (title, text) in titles.items():
        path = f"figures/{name}-{split}.svg"
        if (Path(__file__).parent / path).exists():
            drawn += [f"### {title}", f"![{text}]({path})"]
    return drawn


def seeds(scans: Sequence[Scan]) -> list[str]:
    """Agreement over seeds, for models with several scans."""
    several = [own for own in by(scans, "cell", "name").values() if len(own) >= SEEDS]
    if not several:
        return []
    rows: list[tuple[str, ...]] = [("Scans", "models", "agree with the model's majority")]
    for name, kind in (("backdoored", True), ("honest", False)):
        own = [each for each in several if is_backdoored(each[0]) is kind]
        agree, n = agreeing(own)
        rows.append((name, str(len(own)), rate(agree, n)))
    return ["### Seeds", markdown(rows, right=" r")]


def both(scans: Sequence[Scan]) -> list[str]:
    """The last attacked round against the one before, which is backdoored as well."""
    if not scans:
        return []
    rows: list[tuple[str, ...]] = [("Family", '"clean"', "inconclusive", "backdoored")]
    for (family,), own in [*sorted(by(scans, "family").items()), (("all",), list(scans))]:
        rows.append(
            (
                family,
                *(rate(count(own, each), len(own)) for each in ("clean", "inconclusive", "backdoored")),
            )
        )
    told = "Scans of the last attacked round against the round before, whose ASR is 70 % or more."
    return ["### Both models backdoored", markdown(rows), told]


def failures(scans: Sequence[Scan]) -> str:
    """A row for each scan that isn't right, with its measures."""
    wrong = [scan for scan in scans if not is_right(scan)]
    rows: list[tuple[str, ...]] = [("Model", "ASR", "verdict", "planted", "named", "measures")]
    for scan in sorted(wrong, key=lambda scan: (scan["kind"], scan["cell"], scan["family"])):
        rates = ", ".join(f"{asr:.0%}" for asr in scan["asr"])
        planted = "all-to-all" if scan["family"] == "all-to-all" else pairs(scan["want"])
        measures = ", ".join(
            f"{key.removeprefix('lead_')} {value:.2f}" for key, value in scan["measures"].items()
        )
        rows.append(
            (
                f"{scan['cell']}, {scan['name']}",
                rates or NONE,
                scan["verdict"],
                planted or NONE,
                pairs([each[:2] for each in scan["found"]]) or NONE,
                measures.replace("_", " "),
            )
        )
    told = (
        f"{len(wrong)} of {len(scans)} scans are not right. An arrow alone: all other classes. A clean verdict names "
        "the best candidate."
    )
    return f"{told}\n\n{markdown(rows)}" if wrong else told


def pairs(found: Sequence[Sequence[int | None]]) -> str:
    """Sources and targets in words, the first four."""
    told = [f"{'' if source is None else source}→{target}" for source, target in found[:4]]
    return ", ".join(told) + (" …" if len(found) > len(told) else "")


def spread(values: Sequence[float], unit: str) -> str:
    """Median, least and greatest."""
    return f"{median(values):.0f} {unit} ({min(values):.0f} to {max(values):.0f})" if values else NONE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    print(tables(split=parser.parse_args().split))


if __name__ == "__main__":
    main()
