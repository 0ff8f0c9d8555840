"""Splits points into two clusters, and measures how well that fits them."""

from __future__ import annotations

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-6


def whitened(points: Tensor, components: int) -> Tensor:
    """The points' first principal components, each scaled to a variance of 1.

    Independent components (ICA) of as many dimensions are these, rotated. k-means and the silhouette depend on
    distances alone, so they don't notice a rotation.

    Args:
        points: float64 (N, F).
        components: at most so many; fewer where the points vary in fewer directions.

    Returns:
        (N, K).
    """
    left, sizes, _ = torch.linalg.svd(points - points.mean(0), full_matrices=False)
    kept = int((sizes > _NEGLIGIBLE * sizes.max().clamp_min(1e-300)).sum())
    scaled: Tensor = left[:, : min(components, kept)] * max(1, len(points) - 1) ** 0.5
    return scaled


def two_means(points: Tensor, rng: torch.Generator, *, restarts: int = 10, steps: int = 100) -> Tensor:
    """Whether each point is in the second of two clusters: k-means from several starts (k-means++), the best of them.

    Args:
        points: (N, K).
        rng: on the CPU.
        restarts: number of starts, all in one batch.
        steps: most steps of each.

    Returns:
        bool (N,).
    """
    first = points[torch.randint(len(points), (restarts,), generator=rng)]
    squared = torch.cdist(first, points).square().clamp_min(1e-12)
    second = points[torch.multinomial(squared, 1, generator=rng).squeeze(1)]
    centres = torch.stack([first, second], 1)  # (restarts, 2, K)
    for _ in range(steps):
        distances = torch.cdist(points.expand(restarts, -1, -1), centres)  # (restarts, N, 2)
        nearer = distances.argmin(2)
        members = torch.nn.functional.one_hot(nearer, 2).to(points).transpose(1, 2)
        moved = members @ points / members.sum(2, keepdim=True).clamp_min(1)
        if torch.equal(moved, centres):
            break
        centres = moved
    best = distances.amin(2).square().sum(1).argmin()
    return nearer[best] == 1


def silhouette(points: Tensor, second: Tensor) -> float:
    """The mean silhouette (Rousseeuw, 1987) of two clusters: 1 where they are far apart, about 0 where they aren't two.

    A point alone in its cluster counts as 0.

    Args:
        points: (N, K). second: which points are in the second cluster, bool (N,).

    Returns:
        In [-1, 1]; 0 if one cluster is empty.
    """
    if not bool(second.any()) or bool(second.all()):
        return 0.0
    distances = torch.cdist(points, points)
    same = second[:, None] == second[None]
    own_others = same.sum(1) - 1
    own = (distances * same).sum(1) / own_others.clamp_min(1)
    other = (distances * ~same).sum(1) / (~same).sum(1)
    widths = (other - own) / torch.maximum(own, other).clamp_min(1e-300)
    return float(widths.where(own_others > 0, 0.0).mean())
