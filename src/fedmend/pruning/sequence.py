"""From scores to a pruning sequence, the accuracy along it, and how much to prune (pruning paper, 4.1, 4.2, 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.inference import batch_size_for, device_of, evaluating, pixels_for
from fedmend.pruning.layers import locate
from fedmend.pruning.tail import Tail

StopRule = Literal["step", "total"]


def pruning_sequence(scores: Tensor) -> Tensor:
    """Channels in the order to prune them, the lowest score first; ties keep the channels' order.

    Args:
        scores: (C,), of a vote; channels with high scores are kept.
    """
    return scores.argsort(stable=True)


def points_along(channels: int, most: int = 50) -> list[int]:
    """The number of channels pruned at each testing point: 0 to ``channels - 1``, at most ``most`` + 1 points."""
    return sorted({round(x) for x in torch.linspace(0, channels - 1, min(channels, most + 1)).tolist()})


def accuracies_along(
    model: nn.Module,
    sequence: Sequence[int],
    points: Sequence[int],
    images: Tensor,
    labels: Tensor,
    layer: str | None = None,
) -> Tensor:
    """Accuracy with the first channels of a sequence pruned; the layers before run once per batch.

    On stamped images with the target class as labels, this is the attack success rate.

    Args:
        model: left as found.
        sequence: all channels, the first to prune first (see :func:`pruning_sequence`).
        points: number of channels pruned at each testing point, ascending, each in [0, C).
        images: uint8 or float in [0, 1], (N, C, H, W). labels: int64 (N,).
        layer: the convolution; by default the one that runs last.

    Returns:
        float64 (points,), in [0, 1].

    Raises:
        DataError: there are no images, or labels don't match. ConfigError: sequence or points are not as described.
        ModelError: there is no such convolution.
    """
    if images.ndim != 4 or len(images) == 0 or labels.shape != (len(images),):
        raise DataError(
            f"accuracy along a sequence needs images (N, C, H, W) with labels (N,), N at least 1; got "
            f"{tuple(images.shape)} and {tuple(labels.shape)}"
        )
    pruned = locate(model, images, layer)
    order = [int(channel) for channel in sequence]
    width = pruned.convolution.out_channels
    if sorted(order) != list(range(width)):
        raise ConfigError(
            f"a pruning sequence must name each of the {width} channels of {pruned.name} once; got {order}"
        )
    ascending = all(low < high for low, high in pairwise(points))
    if not points or points[0] < 0 or points[-1] >= width or not ascending:
        raise ConfigError(f"testing points must ascend within 0 to {width - 1}; got {list(points)}")
    device = device_of(model)
    right = torch.zeros(len(points), dtype=torch.int64, device=device)
    with evaluating(model), torch.no_grad():
        for batch, classes in zip(
            images.split(batch_size_for(images)), labels.to(device).split(batch_size_for(images)), strict=True
        ):
            tail = Tail(deepcopy(model), pruned.name, pruned.norms, pixels_for(model, batch))
            done = 0
            for index, count in enumerate(points):
                tail.prune(order[done:count])
                done = count
                right[index] += (tail.logits().argmax(1) == classes).sum()
    return right.cpu().double() / len(images)


def how_far(accuracies: Tensor, max_drop: float = 0.01, rule: StopRule = "step") -> int:
    """The last testing point before the accuracy drops by more than ``max_drop``.

    Args:
        accuracies: in [0, 1], at the testing points, (points,).
        max_drop: fraction in [0, 1]; the paper's is 1 point (5.2).
        rule: "step", the paper's: the drop between neighbouring points; "total": the drop from the first point.

    Returns:
        An index into ``accuracies``.

    Raises:
        ConfigError: ``max_drop`` or ``rule`` is out of range. DataError: the accuracies are.
    """
    if rule not in ("step", "total") or not 0 <= max_drop <= 1:
        raise ConfigError(f'max_drop must be in [0, 1] and rule "step" or "total"; got {max_drop}, {rule!r}')
    if accuracies.ndim != 1 or not len(accuracies) or not bool(((accuracies >= 0) & (accuracies <= 1)).all()):
        raise DataError(f"accuracies must be a vector of fractions in [0, 1]; got {accuracies}")
    accuracies = accuracies.double()
    before = accuracies[:-1] if rule == "step" else accuracies[0]
    # Rounding must not turn a drop of exactly the limit into a larger one, even in single precision.
    over = (before - accuracies[1:] > max_drop + 1e-6).nonzero()
    return int(over[0]) if len(over) else len(accuracies) - 1
