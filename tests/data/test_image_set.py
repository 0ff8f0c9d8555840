from __future__ import annotations

import pytest
import torch

from fedmend.data import ImageSet, stratified
from fedmend.errors import DataError


def make(labels: list[int], classes: int = 3) -> ImageSet:
    images = (
        torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    )
    return ImageSet(images, torch.tensor(labels), tuple("abcdefghij"[:classes]))


def test_length_and_classes() -> None:
    images = make([0, 1, 1, 0], classes=3)
    assert len(images) == 4
    assert images.num_classes == 3


@pytest.mark.parametrize(
    ("images", "labels", "names", "told"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), ("a",), "uint8"),
        (
            torch.zeros(2, 4, 4, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64),
            ("a",),
            r"\(N, C, H, W\)",
        ),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",), "permute"),
        (
            torch.zeros(0, 1, 4, 4, dtype=torch.uint8),
            torch.zeros(0, dtype=torch.int64),
            ("a",),
            "at least one",
        ),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), ("a",), "int64"),
        (
            torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
            torch.zeros(3, dtype=torch.int64),
            ("a",),
            "2 images and 3",
        ),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("a",), r"in \[0, 1\)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, -1]), ("a",), "from -1"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 0]), (), "non-empty tuple"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 0]), ["a"], "tuple"),
        ([[1]], torch.tensor([0, 0]), ("a",), "list"),
    ],
)
def test_what_does_not_fit_is_refused(images: object, labels: object, names: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        ImageSet(images, labels, names)  # type: ignore[arg-type]


def test_subset_keeps_order_and_names_and_copies() -> None:
    images = make([0, 1, 2, 1])
    part = images.subset([2, 0])
    assert part.images[:, 0, 0, 0].tolist() == [2, 0]
    assert part.labels.tolist() == [2, 0]
    assert part.class_names == images.class_names
    part.images.zero_()
    assert int(images.images[2, 0, 0, 0]) == 2


@pytest.mark.parametrize(
    "indices", [[], [4], [-1], [0.5], ["x"], [[0, 1]], torch.tensor([True, False, True, True]), None]
)
def test_subset_refuses_other_indices(indices: object) -> None:
    with pytest.raises(DataError):
        make([0, 1, 2, 1]).subset(indices)  # type: ignore[arg-type]


def drawn(labels: list[int], count: int, seed: int = 0, classes: int = 3) -> tuple[list[int], list[int]]:
    images = make(labels, classes)
    indices = stratified(images, count, torch.Generator().manual_seed(seed))
    return indices.tolist(), torch.bincount(images.labels[indices], minlength=classes).tolist()


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
