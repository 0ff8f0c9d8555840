"""The generated section of the benchmark's README: one row per pair, the paper's figures in brackets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.commits import short
from benchmarks.pruning.cells import average, measured, middle, told
from benchmarks.pruning.paper import FASHION, PATTERNS, PRUNED, Pair, Row
from benchmarks.pruning.part_tables import ablations, batch_norm, by_stage
from benchmarks.pruning.study_tables import from_curves, honest, tallies, throughput
from benchmarks.pruning.targets import (
    NAMES,
    NO_IMAGES,
    PARTS,
    RESULTS,
    Model,
    by_pair,
    by_seed,
    load,
    stage,
    targets,
)
from benchmarks.results import markdown, table

HEAD = (
    "Attack",
    "trained",
    "pruned, extreme weights",
    "and fine-tuned: paper's recipe",
    "fedmend's",
    "with 30 % lying clients",
)
OTHERS = {
    "start": (
        "### Attacked from the first round on",
        "The same pairs without a clean trunk: the attacker takes part in all 40 rounds.",
    ),
    "aware": (
        "### A pruning-aware attacker",
        "It trains without the half of the last convolution's channels that are least active on its clean images.",
    ),
}


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
    parts += [*over_seeds(by_seed(results)), *patterns(results), *no_images(results), *others(results)]
    parts += [*batch_norm(results), *by_stage(results), *ablations(results)]
    parts += [*from_curves(results), *honest(results), *throughput(results), *tallies(results)]
    return "\n\n".join(parts)


def no_images(results: Path) -> list[str]:
    """The repair by a server without images: clients report the accuracies."""
    models = by_pair("fashion", results)
    lines: list[tuple[str, ...]] = [("Attack", "trained", "1,000 images", "none")]
    lines += [
        (
            f"{pair[0]} to {pair[1]}",
            told(stage(model, NO_IMAGES, 0)),
            told(measured(model, "fedmend")),
            told(measured(model, NO_IMAGES)),
        )
        for pair, model in models.items()
        if NO_IMAGES in model
    ]
    if len(lines) == 1:
        return []
    head = "fedmend's recipe with 1,000 validation images at the server and with none; accuracy / ASR."
    return ["### fashion-mnist, without images at the server", head, markdown(lines, right=" rrr")]


def others(results: Path) -> list[str]:
    """Attacks from the first round on, and pruning-aware attacks."""
    parts = []
    for part, (title, head) in OTHERS.items():
        models = load(part, results)["models"]
        lines: list[tuple[str, ...]] = [("Attack", *HEAD[1:])]
        for name, model in sorted(models.items()):
            if "fedmend" in model:
                lines.append(
                    (
                        f"{name.split('-2-')[0]}, {model['victim']} to {model['target']}",
                        told(stage(model, "fedmend", 0)),
                        *(
                            told(measured(model, recipe))
                            for recipe in (
                                "paper, ranking vote",
                                "paper, fine-tuned",
                                "fedmend",
                                "fedmend, liars",
                            )
                        ),
                    )
                )
        if len(lines) > 1:
            parts += [title, head, markdown(lines, right=" rrrrr")]
    return parts


def over_seeds(seeds: dict[int, dict[Pair, Model]]) -> list[str]:
    """Table 2 for each seed."""
    if len(seeds) < 2:
        return []
    lines: list[tuple[str, ...]] = [("Attack", *(f"seed {seed}" for seed in seeds))]
    for pair in FASHION:
        cells = [
            f"{told(stage(pairs[pair], 'fedmend', 0))} → {told(stage(pairs[pair], 'fedmend', -1))}"
            if pair in pairs
            else "–"
            for pairs in seeds.values()
        ]
        lines.append((f"{pair[0]} to {pair[1]}", *cells))
    head = "Accuracy / ASR as trained, and after fedmend's recipe."
    return ["### fashion-mnist, by federation seed", head, markdown(lines, right=" rrr")]


def patterns(results: Path) -> list[str]:
    """Table 1."""
    models = {
        model["shape"]: model
        for part in ("mnist", "patterns")
        for model in load(part, results)["models"].values()
        if (model["victim"], model["target"]) == (9, 1) and "paper, ranking vote" in model
    }
    if len(models) < 2:
        return []
    lines: list[tuple[str, ...]] = [("Trigger", "trained", "pruned", "extreme weights", "fedmend's")]
    for shape, (trained, pruned, adjusted) in PATTERNS.items():
        if shape not in models:
            continue
        model = models[shape]
        recipe = model["paper, ranking vote"]
        lines.append(
            (
                shape.replace("px", " pixels" if shape != "1px" else " pixel"),
                told(stage(model, "paper, ranking vote", 0), trained),
                f"{recipe['pruned']}: {told(stage(model, 'paper, ranking vote', 1))} "
                f"({pruned[0]}: {pruned[1]:g} / {pruned[2]:g})",
                f"{recipe['stages'][-1]['zeroed']}: {told(stage(model, 'paper, ranking vote', -1))} "
                f"({adjusted[0]}: {adjusted[1]:g} / {adjusted[2]:g})",
                told(measured(model, "fedmend")),
            )
        )
    return ["### mnist, 9 to 1, by trigger size (Table 1)", markdown(lines, right=" rrrr")]


def origin(part: str, results: Path) -> str:
    """Where and with what it was measured."""
    file = load(part, results)
    commits = Counter(
        short(recipe["commit"])
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
