"""Combines the accuracies that clients report along a pruning sequence (federated-pruning paper, 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.pruning.ballots import Ballots
from fedmend.untrusted import FLOATS, plain_tensor


class AccuracyVote(Ballots):
    """For a server without images: combines the clients' accuracies at each testing point.

    Each report is taken relative to its first point. At each point a fraction ``trim`` of the reports is dropped at
    either end and the rest averaged, so that a Byzantine minority of that size cannot move the result beyond what
    honest clients report. The paper does not specify how it combines reports.

    Args:
        points: testing points per report.
        num_clients: number of clients, numbered from 0.
        trim: fraction in [0, 0.5).

    Attributes:
        counted: number of valid reports. refused: number of others, by reason.

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
        accuracies = plain_tensor(report, FLOATS, (self.points,))
        reason = self.admit(client, _flaw(accuracies))
        if reason is None and accuracies is not None:
            self._reports[client] = accuracies.double()
        return reason

    def firsts(self) -> dict[int, Tensor]:
        """The first point of each valid report, float64 (1,), by client."""
        return {client: report[:1] for client, report in self._reports.items()}

    def accuracies(self) -> Tensor:
        """The combined accuracy at each point, float64 (points,).

        Raises:
            DataError: there is no valid report.
        """
        if not self._reports:
            raise DataError(f"there is no valid report of accuracies; refused: {dict(self.refused)}")
        reports = torch.stack(list(self._reports.values()))
        cut = min(math.ceil(self.trim * len(reports) - 1e-9), (len(reports) - 1) // 2)
        drops = (reports[:, :1] - reports).sort(0).values[cut : len(reports) - cut]
        first = reports[:, 0].median()
        return (first - drops.mean(0)).clamp(0, 1)


def _flaw(accuracies: Tensor | None) -> str | None:
    if accuracies is None:
        return "accuracies of the wrong length or kind"
    if not bool(accuracies.isfinite().all()):
        return "accuracies that are NaN or infinite"
    if not bool(((accuracies >= 0) & (accuracies <= 1)).all()):
        return "accuracies below 0 or above 1"
    return None
