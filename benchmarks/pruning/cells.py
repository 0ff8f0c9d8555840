"""Figures as the tables show them: accuracy and ASR in percent, the paper's in brackets."""

from __future__ import annotations

from statistics import mean

from benchmarks.pruning.paper import Pair
from benchmarks.pruning.targets import Model, stage


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
