"""Accuracy along a pruning sequence, and how far to prune (federated-pruning paper, 4.1, 4.2 and 5.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.inference import BATCH_SIZE, device_of, evaluating, pixels_for
from fedmend.progress import Progress, silent
from fedmend.pruning.ballots import FLOATS, Ballots, is_plain
from fedmend.pruning.layers import locate
from fedmend.pruning.tail import Tail
from fedmend.triggers import Trigger

StopRule = Literal["step", "total"]


def points_along(channels: int, most: int = 50) -> list[int]:
    """How many channels are pruned at each testing point: 0 to ``channels - 1``, at most ``most`` + 1 points."""
    return sorted({round(x) for x in torch.linspace(0, channels - 1, min(channels, most + 1)).tolist()})


def accuracies_along(
    model: nn.Module,
    sequence: Sequence[int],
    points: Sequence[int],
    images: Tensor,
    labels: Tensor,
    *,
    layer: str | None = None,
    trigger: Trigger | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Accuracy with the first so many channels of a sequence pruned; the layers below run once a batch.

    Args:
        model: left as found.
        sequence: all channels, the first to prune first (see :func:`fedmend.pruning.pruning_sequence`).
        points: how many channels are pruned at each testing point, rising, each in [0, C).
        images: uint8 or float in [0, 1], (N, C, H, W). labels: int64 (N,).
        layer: the convolution; by default the one that runs last.
        trigger: stamped on the images first; with the target class as labels, what comes out is the ASR.
        progress: called as ``progress("pruning sequence", batch, batches)``.

    Returns:
        float64 (points,), shares in [0, 1].

    Raises:
        DataError: there are no images, or labels don't match. ConfigError: sequence or points aren't such.
        ModelError: there is no such convolution.
    """
    if images.ndim != 4 or len(images) == 0 or labels.shape != (len(images),):
        raise DataError(
            f"accuracy along a sequence needs images (N, C, H, W) with labels (N,), N at least 1; got "
            f"{tuple(images.shape)} and {tuple(labels.shape)}"
        )
    point = locate(model, images, layer)
    order = [int(channel) for channel in sequence]
    width = point.convolution.out_channels
    if sorted(order) != list(range(width)):
        raise ConfigError(
            f"a pruning sequence names each of the {width} channels of {point.name} once; got {order}"
        )
    rising = all(low < high for low, high in pairwise(points))
    if not points or points[0] < 0 or points[-1] >= width or not rising:
        raise ConfigError(f"testing points rise from 0 or more to at most {width - 1}; got {list(points)}")
    device = device_of(model)
    right = torch.zeros(len(points), dtype=torch.int64, device=device)
    batches = list(zip(images.split(BATCH_SIZE), labels.to(device).split(BATCH_SIZE), strict=True))
    with evaluating(model), torch.no_grad():
        for number, (batch, classes) in enumerate(batches, 1):
            pixels = pixels_for(model, batch)
            if trigger is not None:
                pixels = trigger.apply(pixels)
            tail = Tail(deepcopy(model), point.name, point.norms, pixels)
            done = 0
            for index, count in enumerate(points):
                tail.prune(order[done:count])
                done = count
                right[index] += (tail.logits().argmax(1) == classes).sum()
            progress("pruning sequence", number, len(batches))
    return right.cpu().double() / len(images)


def how_far(accuracies: Tensor, max_drop: float = 0.01, rule: StopRule = "step") -> int:
    """The last testing point before the accuracy drops by more than ``max_drop``.

    Args:
        accuracies: shares in [0, 1] at the testing points, (points,).
        max_drop: share in [0, 1]; the paper's is 1 point (5.2).
        rule: "step", the paper's: the drop between two neighbouring points; "total": the drop from the first point.

    Returns:
        An index into ``accuracies``.

    Raises:
        ConfigError: ``max_drop`` or ``rule`` is out of range. DataError: not such accuracies.
    """
    if rule not in ("step", "total") or not 0 <= max_drop <= 1:
        raise ConfigError(f'max_drop must be in [0, 1] and rule "step" or "total"; got {max_drop}, {rule!r}')
    if accuracies.ndim != 1 or not len(accuracies) or not bool(((accuracies >= 0) & (accuracies <= 1)).all()):
        raise DataError(f"accuracies must be a vector of shares in [0, 1]; got {accuracies}")
    accuracies = accuracies.double()
    before = accuracies[:-1] if rule == "step" else accuracies[0]
    # Shares of images, maybe in single precision: a drop of exactly the limit must not fall to rounding.
    over = (before - accuracies[1:] > max_drop + 1e-6).nonzero()
    return int(over[0]) if len(over) else len(accuracies) - 1


class AccuracyVote(Ballots):
    """Combines the accuracies that clients report along the sequence, where the server has no images (4).

    A client's report counts as its fall from its own first point. At each point the lowest and highest reports are
    left out, a ``trim`` share at either end, and the rest averaged: up to that share of liars can't move the
    result beyond what honest clients report. The paper doesn't say how it combines them.

    Args:
        points: how many testing points a report has.
        num_clients: clients are numbered from 0 to one below this.
        trim: share in [0, 0.5).

    Attributes:
        counted: reports that count. refused: of the others, how many for each reason.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(self, points: int, num_clients: int, trim: float = 0.3) -> None:
        super().__init__(num_clients)
        if points < 1 or not 0 <= trim < 0.5:
            raise ConfigError(f"points must be 1 or more and trim in [0, 0.5); got {points}, {trim}")
        self.points, self.trim = points, trim
        self._reports: dict[int, Tensor] = {}

    def add(self, client: int, report: Tensor) -> str | None:
        """Count a client's report, made by :func:`accuracies_along`; returns why it was refused, or None."""
        reason = self.admit(client, self._flaw(report))
        if reason is None:
            self._reports[client] = report.detach().cpu().double().clone()
        return reason

    def firsts(self) -> dict[int, Tensor]:
        """The first point of each report that counts, float64 (1,), by client: what its later answers fall from."""
        return {client: report[:1] for client, report in self._reports.items()}

    def accuracies(self) -> Tensor:
        """The combined accuracy at each point, float64 (points,).

        Raises:
            DataError: no report counts.
        """
        if not self._reports:
            raise DataError(f"no report of accuracies counts; refused were {dict(self.refused)}")
        reports = torch.stack(list(self._reports.values()))
        cut = min(math.ceil(self.trim * len(reports) - 1e-9), (len(reports) - 1) // 2)
        falls = (reports[:, :1] - reports).sort(0).values[cut : len(reports) - cut]
        first = reports[:, 0].median()
        return (first - falls.mean(0)).clamp(0, 1)

    def _flaw(self, report: Tensor) -> str | None:
        if not is_plain(report, FLOATS) or report.shape != (self.points,):
            return "accuracies of another length or kind"
        if not bool(report.isfinite().all()):
            return "accuracies that are NaN or infinite"
        if not bool(((report >= 0) & (report <= 1)).all()):
            return "accuracies below 0 or above 1"
        return None
