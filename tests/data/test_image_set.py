from __future__ import annotations

import pytest
import torch

from fedmend.data import ImageSet
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
