from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmend.data import LazyImages
from fedmend.data.lazy_images import opened_images
from fedmend.errors import DataError


class Decoder:
    """Image ``i`` is filled with ``i``; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, rows: list[int]) -> Tensor:
        self.asked.append(rows)
        return torch.tensor(rows, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 4).contiguous()


def opened(labels: list[int]) -> tuple[LazyImages, Decoder]:
    decoder = Decoder()
    return LazyImages(torch.tensor(labels), ("a", "b", "c"), decoder), decoder


def test_only_what_is_asked_for_is_decoded() -> None:
    images, decoder = opened([0, 1, 1, 0, 2])
    assert (len(images), images.num_classes) == (5, 3)
    assert decoder.asked == []
    part = images.subset([4, 1, 4])
    assert decoder.asked == [[1, 4]]
    assert part.images[:, 0, 0, 0].tolist() == [4, 1, 4]
    assert part.labels.tolist() == [2, 1, 2]
    assert part.class_names == images.class_names


def test_loading_all() -> None:
    images, _ = opened([2, 0, 1])
    assert images.load().images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert images.load().labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("indices", [[], [3], [-1], [0.5]])
def test_other_indices_are_refused_before_anything_is_decoded(indices: list[int]) -> None:
    images, decoder = opened([0, 1, 2])
    with pytest.raises(DataError):
        images.subset(indices)
    assert decoder.asked == []


@pytest.mark.parametrize(
    ("labels", "names", "told"),
    [
        (np.array([0, 3]), ("a", "b", "c"), "3 class names"),
        (np.array([0, -1]), None, "from -1"),
        (np.array([0.0]), None, "integers"),
        (np.array([[0]]), None, "integers"),
        (np.array([], dtype=np.int64), None, "at least one image"),
        (np.array([100_000]), None, "100000"),
    ],
)
def test_labels_are_checked_at_once(labels: np.ndarray, names: tuple[str, ...] | None, told: str) -> None:
    with pytest.raises(DataError, match=told):
        opened_images(labels, names, Decoder(), "somewhere")
