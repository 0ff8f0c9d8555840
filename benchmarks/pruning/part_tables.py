"""Tables of what each part of a repair is worth, and of the paper's networks with batch normalisation."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

from benchmarks.commits import short
from benchmarks.pruning.cells import measured, told
from benchmarks.pruning.targets import load, stage
from benchmarks.results import markdown

PARTS = {
    "mnist": "mnist",
    "fashion": "fashion-mnist, seed 2",
    "seeds": "fashion-mnist, seeds 3 and 4",
    "start": "mnist, attacked from round 1",
    "aware": "pruning-aware attacker",
}
STAGES = ("suspect", "pruned", "fine-tuned")
BATCH_NORM = ("batch-norm-mnist", "batch-norm-small", "batch-norm-fashion")
PAPERS = {
    "sigma over all weights: as written": "paper, mu and sigma over all weights",
    "sigma of the live weights: ours": "paper, ranking vote",
    "as written, fine-tuned": "paper as written, fine-tuned",
    "live sigma, fine-tuned": "paper, fine-tuned",
}


def by_stage(results: Path) -> list[str]:
    """What is left of the backdoor after each stage of fedmend's repair."""
    lines: list[tuple[str, ...]] = [("Models", "n", *STAGES, "largest ASR after the vote and the pruning")]
    for part, name in PARTS.items():
        models = [model for model in load(part, results)["models"].values() if "fedmend" in model]
        if not models:
            continue
        cells = []
        for index in range(len(STAGES)):
            figures = [stage(model, "fedmend", index) for model in models]
            cells.append(told((mean(each for each, _ in figures), mean(each for _, each in figures))))
        worst = max(stage(model, "fedmend", 1)[1] for model in models)
        lines.append((name, str(len(models)), *cells, f"{worst:.1f} %"))
    if len(lines) == 1:
        return []
    head = "Mean accuracy / ASR after each stage of fedmend's recipe, from the results above."
    return ["### What vote and pruning do, and what fine-tuning does", head, markdown(lines, right=" rrrrr")]


def ablations(results: Path) -> list[str]:
    """fedmend's repair without one of its parts."""
    path = results / "ablations.json"
    if not path.exists():
        return []
    file = json.loads(path.read_text(encoding="utf-8"))
    names = list(dict.fromkeys(name for variants in file["models"].values() for name in variants))
    lines: list[tuple[str, ...]] = [("Repair", *file["models"])]
    for name in names:
        cells = []
        for variants in file["models"].values():
            cell = "–"
            if name in variants:
                after = variants[name]["after"]
                cell = f"{told((100 * after['accuracy'], 100 * after['asr']))}, {variants[name]['outcome']}"
            cells.append(cell)
        lines.append((name, *cells))
    commits = {short(each["commit"]) for variants in file["models"].values() for each in variants.values()}
    head = (
        f"Accuracy / ASR after the repair and its outcome, run at {', '.join(f'`{each}`' for each in sorted(commits))} "
        f"with torch {file['torch']} on {file['machine']}."
    )
    return [
        "### fedmend's repair without one of its parts",
        head,
        markdown(lines, right=" " + "r" * len(file["models"])),
    ]


def batch_norm(results: Path) -> list[str]:
    """The paper's own setting: batch normalisation, attacked from round 1, one learning rate."""
    lines: list[tuple[str, ...]] = [("Attack", "trained", *PAPERS, "fedmend's")]
    for part in BATCH_NORM:
        for name, model in sorted(load(part, results)["models"].items()):
            known = next((each for each in (*PAPERS.values(), "fedmend") if each in model), None)
            if known is None:
                continue
            lines.append(
                (
                    f"{name.split('/')[0]}, {model['victim']} to {model['target']}",
                    told(stage(model, known, 0)),
                    *(told(measured(model, recipe)) for recipe in (*PAPERS.values(), "fedmend")),
                )
            )
    if len(lines) == 1:
        return []
    head = (
        "Batch normalisation between the layers (4.3); the attacker is in every round, and has the honest "
        "clients' learning rate (3.1). Names end with the seed and the labels per client."
    )
    return ["### With batch normalisation, as in the paper", head, markdown(lines, right=" rrrrrr")]
