"""The generated section of the benchmark's README: a row a pair, the paper's figures in brackets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import mean

from benchmarks.pruning.paper import PRUNED, Pair, Row
from benchmarks.pruning.targets import NAMES, PARTS, RESULTS, Model, by_pair, load, stage, targets
from benchmarks.results import markdown, table

HEAD = (
    "Attack",
    "trained",
    "pruned, extreme weights",
    "and fine-tuned: paper's recipe",
    "fedmend's",
    "with 30 % liars",
)


def tables(results: Path = RESULTS) -> str:
    """Everything between the markers."""
    parts = ["### Targets", table(targets(results))]
    for part, rows in PARTS.items():
        models = by_pair(part, results)
        parts.append(f"### {NAMES[part]}")
        if len(models) < len(rows):
            parts.append(f"**Incomplete: {len(models)} of {len(rows)} pairs have a result.**")
        if models:
            parts += [origin(part, results), recipes(rows, models)]
        if models and part == "mnist":
            parts += ["Pruning alone (Table 5): channels pruned, accuracy / ASR.", pruning_alone(models)]
    return "\n\n".join([*parts, *tallies(results)])


def tallies(results: Path) -> list[str]:
    """Time and memory of counting a stream of votes."""
    path = results / "tally.json"
    if not path.exists():
        return []
    file = json.loads(path.read_text(encoding="utf-8"))
    lines: list[tuple[str, ...]] = [("Vote", "clients", "seconds", "microseconds a vote", "memory, MiB")]
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


def origin(part: str, results: Path) -> str:
    """Where and with what it was measured."""
    file = load(part, results)
    commits = Counter(
        recipe["commit"][:12]
        for model in file["models"].values()
        for recipe in model.values()
        if isinstance(recipe, dict)
    )
    told = ", ".join(f"`{commit}` ({count} results)" for commit, count in commits.most_common())
    return (
        f"Run at {told} with torch {file['torch']} and Python {file['python']} on {file['machine']}; one seed. "
        "Accuracy / ASR in percent, the paper's in brackets."
    )


def recipes(rows: dict[Pair, Row], models: dict[Pair, Model]) -> str:
    """Tables 2 and 4."""
    lines: list[tuple[str, ...]] = [HEAD]
    for pair, model in models.items():
        paper = rows[pair]
        lines.append(
            (
                f"{pair[0]} to {pair[1]}",
                told(stage(model, "fedmend", 0), (paper.accuracy, paper.asr)),
                told(measured(model, "paper, ranking vote"), paper.adjusted),
                told(measured(model, "paper, fine-tuned"), paper.fine_tuned),
                told(measured(model, "fedmend")),
                told(measured(model, "fedmend, liars")),
            )
        )
    paper_rows = [rows[pair] for pair in models]
    lines.append(
        (
            "mean",
            told(average(models, "fedmend", 0), middle([(row.accuracy, row.asr) for row in paper_rows])),
            told(average(models, "paper, ranking vote", -1), middle([row.adjusted for row in paper_rows])),
            told(average(models, "paper, fine-tuned", -1), middle([row.fine_tuned for row in paper_rows])),
            told(average(models, "fedmend", -1)),
            told(average(models, "fedmend, liars", -1)),
        )
    )
    return markdown(lines, right=" rrrrr")


def pruning_alone(models: dict[Pair, Model]) -> str:
    """Table 5."""
    lines: list[tuple[str, ...]] = [("Attack", "ranking vote", "majority vote")]
    for pair, model in models.items():
        if not {"paper, ranking vote", "paper, majority vote"} <= model.keys():
            continue
        cells = []
        for recipe, (count, *figures) in zip(
            ("paper, ranking vote", "paper, majority vote"), PRUNED[pair], strict=True
        ):
            ours = told(stage(model, recipe, 1))
            cells.append(f"{model[recipe]['pruned']}: {ours} ({count}: {figures[0]:g} / {figures[1]:g})")
        lines.append((f"{pair[0]} to {pair[1]}", *cells))
    return markdown(lines, right=" rr")


def measured(model: Model, recipe: str) -> tuple[float, float] | None:
    """Accuracy and ASR after a recipe's last stage, if it has been run."""
    return stage(model, recipe, -1) if recipe in model else None


def average(models: dict[Pair, Model], recipe: str, index: int) -> tuple[float, float] | None:
    """The mean over all models, if all have that recipe's result."""
    if not all(recipe in model for model in models.values()):
        return None
    return middle([stage(model, recipe, index) for model in models.values()])


def middle(figures: list[tuple[float, float]]) -> tuple[float, float]:
    return mean(first for first, _ in figures), mean(second for _, second in figures)


def told(ours: tuple[float, float] | None, paper: tuple[float, float] | None = None) -> str:
    text = "–" if ours is None else f"{ours[0]:.1f} / {ours[1]:.1f}"
    return text if paper is None else f"{text} ({paper[0]:.1f} / {paper[1]:.1f})"
