from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedmend.data import dirichlet, iid, k_label
from fedmend.errors import DataError

label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(torch.tensor)
seeds = st.integers(0, 2**32)
quick = settings(max_examples=60, deadline=None)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_partition(parts: list[Tensor], labels: Tensor, num_clients: int) -> None:
    assert len(parts) == num_clients
    assert all(part.dtype == torch.int64 and len(part) > 0 for part in parts)
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))


@quick
@given(labels=label_lists, data=st.data(), seed=seeds)
def test_iid(labels: Tensor, data: st.DataObject, seed: int) -> None:
    clients = data.draw(st.integers(1, len(labels)))
    parts = iid(labels, clients, seeded(seed))
    assert_partition(parts, labels, clients)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@quick
@given(labels=label_lists, data=st.data(), alpha=st.floats(0, 1e6, exclude_min=True), seed=seeds)
def test_dirichlet(labels: Tensor, data: st.DataObject, alpha: float, seed: int) -> None:
    clients = data.draw(st.integers(1, len(labels)))
    assert_partition(dirichlet(labels, clients, alpha, seeded(seed)), labels, clients)


@quick
@given(labels=label_lists, clients=st.integers(1, 12), k=st.integers(1, 6), seed=seeds)
def test_k_label(labels: Tensor, clients: int, k: int, seed: int) -> None:
    counts = torch.bincount(labels)
    num_labels = int((counts > 0).sum())
    feasible = (
        clients <= len(labels)
        and k <= num_labels
        and num_labels <= clients * k <= int(counts.clamp(max=clients).sum())
    )
    if not feasible:
        with pytest.raises(DataError):
            k_label(labels, clients, k, seeded(seed))
        return
    parts = k_label(labels, clients, k, seeded(seed))
    assert_partition(parts, labels, clients)
    assert all(len(labels[part].unique()) == k for part in parts)


@pytest.mark.parametrize("k", [1, 3, 5, 7, 10])
def test_k_label_is_even_in_the_papers_setting(k: int) -> None:
    labels = torch.arange(10).repeat(420)
    for part in k_label(labels, 10, k, seeded()):
        counts = torch.bincount(labels[part], minlength=10)
        assert counts[counts > 0].tolist() == [420 // k] * k


def test_k_label_gives_a_frequent_label_more_holders() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    parts = k_label(labels, 10, 1, seeded())
    assert [len(part) for part in parts] == [10] * 10


def test_labels_may_be_any_numbers() -> None:
    labels = torch.tensor([0, 10**15] * 10)
    assert_partition(k_label(labels, 4, 1, seeded()), labels, 4)
    assert_partition(dirichlet(labels, 4, 0.5, seeded()), labels, 4)


def test_dirichlet_follows_alpha() -> None:
    labels = torch.arange(5).repeat(400)
    even = dirichlet(labels, 5, 1e5, seeded())
    assert all(abs(len(part) - 400) < 20 for part in even)
    skewed = dirichlet(labels, 5, 0.05, seeded())
    shares = [torch.bincount(labels[part], minlength=5).max() / len(part) for part in skewed]
    assert sum(float(share) for share in shares) / 5 > 0.6


@pytest.mark.parametrize(
    "split",
    [
        lambda labels, generator: iid(labels, 6, generator),
        lambda labels, generator: k_label(labels, 6, 3, generator),
        lambda labels, generator: dirichlet(labels, 6, 0.5, generator),
    ],
)
def test_same_seed_same_split(split) -> None:  # type: ignore[no-untyped-def]
    labels = torch.arange(5).repeat(40)
    before = torch.get_rng_state()
    first, again, other = (split(labels, seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("labels", "clients"),
    [
        (torch.zeros(3), 1),
        (torch.zeros(3, 1, dtype=torch.int64), 1),
        (torch.zeros(0, dtype=torch.int64), 1),
        (torch.tensor([0, -1]), 1),
        (torch.tensor([True, False]), 1),
        ([0, 1], 1),
        (torch.tensor([0, 1]), 0),
        (torch.tensor([0, 1]), 3),
        (torch.tensor([0, 1]), 1.0),
        (torch.tensor([0, 1]), True),
    ],
)
def test_unusable_labels_or_clients(labels: Tensor, clients: int) -> None:
    for split in (
        lambda: iid(labels, clients, seeded()),
        lambda: k_label(labels, clients, 1, seeded()),
        lambda: dirichlet(labels, clients, 1.0, seeded()),
    ):
        with pytest.raises(DataError, match=r"labels must be|num_clients must be"):
            split()


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), 1e7, "1", True, None])
def test_unusable_alpha(alpha: float) -> None:
    with pytest.raises(DataError, match="alpha"):
        dirichlet(torch.arange(4), 2, alpha, seeded())


@pytest.mark.parametrize(
    ("clients", "k", "told"),
    [
        (2, 0, "labels_per_client"),
        (2, 5, r"\[1, 4\]"),
        (2, 1, "at least 2 labels"),
        (4, 2, "too few images"),
        (2, 2.0, "whole number"),
    ],
)
def test_unusable_k(clients: int, k: int, told: str) -> None:
    with pytest.raises(DataError, match=told):
        k_label(torch.arange(4), clients, k, seeded())
