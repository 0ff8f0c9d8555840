"""Tables of the studies beside the recipes: voting rules, honest models, throughput, tally."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.pruning.cells import told
from benchmarks.pruning.paper import SMALL
from benchmarks.results import markdown


def throughput(results: Path) -> list[str]:
    """Samples per second of local training."""
    path = results / "throughput.json"
    if not path.exists():
        return []
    file = json.loads(path.read_text(encoding="utf-8"))
    lines: list[tuple[str, ...]] = [("Training", *(f"{name}: samples per second" for name in file["rows"]))]
    lines += [
        (
            name,
            *(
                f"{row[name]['samples']:,.0f} (x {row[name]['ratio']:.2f}: {row[name]['lowest']:.2f} to "
                f"{row[name]['highest']:.2f})"
                for row in file["rows"].values()
            ),
        )
        for name in next(iter(file["rows"].values()))
    ]
    head = (
        f"Medians of {file['repeats']} repetitions, and ratios to the simulator on one core in the same repetition, on "
        f"{file['machine']}, torch {file['torch']}."
    )
    return ["### Throughput", head, markdown(lines, right=" rrr")]


def honest(results: Path) -> list[str]:
    """What fraction of a class eight pixels move in honest models."""
    path = results / "honest.json"
    if not path.exists():
        return []
    models = json.loads(path.read_text(encoding="utf-8"))["models"]
    lines: list[tuple[str, ...]] = [("Honest models", "n", "highest rates", "highest of all, classes")]
    for source in dict.fromkeys(name.split("/")[0] for name in models):
        own = [found for name, found in models.items() if name.split("/")[0] == source]
        rates = ", ".join(f"{found['rate']:.2f}" for found in sorted(own, key=lambda each: each["rate"]))
        top = max(own, key=lambda each: each["rate"])
        lines.append((source, str(len(own)), rates, f"{top['rate']:.2f}, {top['source']} to {top['target']}"))
    head = (
        "The best trigger of eight pixels found in each model of the detection benchmark, on 640 test images."
    )
    return ["### Honest models", head, markdown(lines, right=" r")]


def from_curves(results: Path) -> list[str]:
    """Table 3, and the voting rules against lying clients."""
    path = results / "curves.json"
    file = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [*small_network(file.get("small", {})), *rules(file.get("along", {}))]


def small_network(rows: dict[str, Any]) -> list[str]:
    """Table 3."""
    if not rows:
        return []
    found = {
        (each["measured"]["victim"], each["measured"]["target"]): each["measured"] for each in rows.values()
    }
    lines: list[tuple[str, ...]] = [("Attack", "trained", "weights set to zero", "extreme weights alone")]
    for pair, (count, *figures) in SMALL.items():
        if pair not in found:
            continue
        row = found[pair]
        lines.append(
            (
                f"{pair[0]} to {pair[1]}",
                told((100 * row["accuracy before"], 100 * row["asr before"])),
                f"{row['zeroed']} ({count})",
                told((100 * row["accuracy"], 100 * row["asr"]), (figures[0], figures[1])),
            )
        )
    title = "### mnist, the network with 8 and 16 channels (Table 3)"
    missing = [] if len(found) == len(SMALL) else [f"**Incomplete: {len(found)} of {len(SMALL)} pairs.**"]
    return [title, *missing, markdown(lines, right=" rrr")]


def rules(models: dict[str, Any]) -> list[str]:
    """How many channels each rule lets one prune, without and with lying clients."""
    if not models:
        return []
    names = list(
        dict.fromkeys(name.rsplit(",", 1)[0] for each in models.values() for name in each["measured"])
    )
    lines: list[tuple[str, ...]] = [("Model and rule", "all clients honest", "3 of 10 lie")]
    for model, each in models.items():
        for name in names:
            cells = []
            for liars in (0, 3):
                curve = each["measured"][f"{name}, {liars} liars"]
                count = curve["stop"]["total"]
                index = curve["points"].index(count)
                figures = (100 * curve["accuracy"][index], 100 * curve["asr"][index])
                cells.append(f"{count}: {told(figures)}")
            lines.append((f"{model.split('-2-')[0]}, {name}", *cells))
    head = (
        "Channels that can be pruned before accuracy on 1,000 validation images falls by a point, with accuracy / ASR "
        "at that point; 9 to 1, seed 2. Lying clients rank the backdoor's channels as the most active."
    )
    return ["### Lying clients, by voting rule", head, markdown(lines, right=" rr")]


def tallies(results: Path) -> list[str]:
    """Time and memory of tallying a stream of votes."""
    path = results / "tally.json"
    if not path.exists():
        return []
    file = json.loads(path.read_text(encoding="utf-8"))
    lines: list[tuple[str, ...]] = [("Vote", "clients", "seconds", "microseconds per vote", "memory, MiB")]
    for name in ("ranking", "majority, 3 rates"):
        lines += [
            (
                name,
                f"{row['clients']:,}",
                f"{row['seconds']:.1f}",
                f"{row['microseconds_a_vote']:.0f}",
                f"{row['mib_beyond']:.1f}",
            )
            for row in file[name]
        ]
    head = f"{file['channels']} channels, on {file['machine']}, torch {file['torch']}."
    return ["### Tally", head, markdown(lines, right=" rrrr")]
