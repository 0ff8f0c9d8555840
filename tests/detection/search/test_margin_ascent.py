"""Margins by hand, and the ascent on a model whose largest margins are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedmend.detection.search.margin_ascent import MarginAscent, margins_of

LIKE = torch.rand(2, 1, 1, 3, generator=torch.Generator().manual_seed(0))
PEAKS = torch.tensor([2.0, 3.0, 7.0])


def model(images: Tensor) -> Tensor:
    return images.flatten(1) * PEAKS


def climb(**settings: object) -> tuple[list[float], str]:
    ascent = MarginAscent(**{"restarts": 3, "steps": 100} | settings)  # type: ignore[arg-type]
    found = ascent(model, LIKE, 2**30, torch.Generator().manual_seed(0))
    return found.margins.tolist(), found.note


def test_margins_by_hand() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0]])
    assert margins_of(logits, torch.tensor([1, 0])).tolist() == [2.0, -4.0]


def test_the_ascent_reaches_the_largest_margins_and_ends() -> None:
    margins, note = climb()
    assert margins == pytest.approx([2.0, 3.0, 7.0], rel=1e-3)
    assert "stopped growing after" in note


def test_it_says_if_the_steps_ran_out() -> None:
    margins, note = climb(steps=3)
    assert margins[2] < 7.0
    assert "still growing" in note


def test_parts_that_fit_the_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = climb()
    monkeypatch.setattr("fedmend.detection.search.margin_ascent.images_at_once", lambda *_: 2)
    assert climb() == whole
