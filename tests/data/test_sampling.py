from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fedmend.data import stratified
from fedmend.errors import DataError


@dataclass(frozen=True)
class Labels:
    """All that images are drawn by."""

    labels: Tensor
    num_classes: int


def drawn(labels: list[int], count: int, seed: int = 0, classes: int = 3) -> tuple[list[int], list[int]]:
    indices = stratified(Labels(torch.tensor(labels), classes), count, torch.Generator().manual_seed(seed))
    return indices.tolist(), torch.bincount(torch.tensor(labels)[indices], minlength=classes).tolist()


def test_stratified_draws_equally_and_repeatably() -> None:
    labels = [0, 1, 2] * 20
    indices, counts = drawn(labels, 9)
    assert counts == [3, 3, 3]
    assert indices == sorted(set(indices))
    assert indices == drawn(labels, 9)[0]
    assert indices != drawn(labels, 9, seed=1)[0]


def test_stratified_shares_the_rest_out() -> None:
    assert sorted(drawn([0, 1, 2] * 20, 11)[1]) == [3, 4, 4]
    # The class with one image gives it, the one without gives none, the third makes up for both.
    assert drawn([0] + [1] * 20, 9)[1] == [1, 8, 0]
    assert drawn([0, 1, 2] * 2, 6)[0] == list(range(6))


@pytest.mark.parametrize("count", [0, -1, 7, 2.0, True])
def test_stratified_refuses_other_counts(count: int) -> None:
    with pytest.raises(DataError, match=r"in \[1, 6\]"):
        drawn([0, 1, 2] * 2, count)


def test_randomness_stays_with_the_generator() -> None:
    before = torch.get_rng_state()
    drawn([0, 1, 2] * 20, 10)
    assert torch.equal(before, torch.get_rng_state())
