"""Accuracies of a server without images: what clients report, stage after stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.progress import silent
from fedmend.repairs.asking import Asking, ClientReports


@dataclass
class Client:
    """It reports these accuracies: along the sequence, and of the model after a later stage."""

    first: tuple[float, float]
    later: float

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        told = self.first if len(points) > 1 else (self.later,)
        return torch.tensor(told, dtype=torch.float64)


def reports(*clients: Any) -> ClientReports:
    return ClientReports(Asking(clients, 60.0, silent), (1, 2, 2))


def test_a_later_stage_counts_by_its_fall_from_each_clients_first_report() -> None:
    """The falls are 0.1, 0 and 0.3, of which the middle one is kept; the median of the first reports is 0.8."""
    asked = reports(Client((0.9, 0.9), 0.8), Client((0.8, 0.8), 0.8), Client((0.5, 0.5), 0.2))
    assert asked.along(nn.Identity(), "0", [0, 1], [0, 1]).tolist() == pytest.approx([0.8, 0.8])
    assert asked.along(nn.Identity(), "0", [0, 1], [0]).tolist() == pytest.approx([0.7])


def test_a_client_without_a_valid_first_report_is_not_asked_again() -> None:
    asked = reports(Client((0.9, 0.9), 0.8), Client((7.0, 0.9), 0.1))
    assert asked.along(nn.Identity(), "0", [0, 1], [0, 1]).tolist() == pytest.approx([0.9, 0.9])
    assert asked.along(nn.Identity(), "0", [0, 1], [0]).tolist() == pytest.approx([0.8])
    assert asked.warnings == ["of 2 reports of accuracies, refused: 1 for accuracies below 0 or above 1"]
