"""TABOR's regularisers, by hand-worked examples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedmend.detection import tabor_terms as terms
from fedmend.detection.lone_suspect import LoneSuspect
from fedmend.detection.tabor_terms import TaborWeights

MASK = torch.tensor([[[[1.0, 0.0], [0.5, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
PATTERN = torch.tensor([[[[0.3, 0.2], [0.4, 1.0]]], [[[1.0, 1.0], [0.0, 0.0]]]])
OFF = dict.fromkeys(
    ("mask_size", "pattern_size", "mask_scatter", "pattern_scatter", "blocking", "overlaying"), 0.0
)


def brightness(images: Tensor) -> Tensor:
    """Class 1 the likelier, the brighter: the logit is the sum of the pixels."""
    total = images.flatten(1).sum(1)
    return torch.stack([torch.zeros_like(total), total], 1)


def suspect() -> LoneSuspect:
    images = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    return LoneSuspect(brightness, images, torch.tensor([1, 0]), 2, 1000)


def test_r1_is_the_elastic_net_of_the_mask_and_of_the_pattern_outside_of_it() -> None:
    assert terms.elastic(MASK).tolist() == [1.5 + 1.25, 0]
    size = terms.large_and_scattered(MASK, PATTERN, TaborWeights(**(OFF | {"mask_size": 2.0})))
    assert size.tolist() == [5.5, 0]
    outside = terms.large_and_scattered(MASK, PATTERN, TaborWeights(**(OFF | {"pattern_size": 1.0})))
    # Outside are 0, 0.2, 0.2 and 1 in the first, 1, 1, 0 and 0 in the second.
    assert outside.tolist() == pytest.approx([1.4 + 1.08, 4.0])


def test_r2_is_the_squared_differences_of_neighbours() -> None:
    # Down: 1 to 0.5 and 0 to 0. Across: 1 to 0 and 0.5 to 0.
    assert terms.scatter(MASK).tolist() == [0.25 + 1 + 0.25, 0]
    scattered = terms.large_and_scattered(MASK, PATTERN, TaborWeights(**(OFF | {"mask_scatter": 4.0})))
    assert scattered.tolist() == [6, 0]
    outside = terms.large_and_scattered(MASK, PATTERN, TaborWeights(**(OFF | {"pattern_scatter": 1.0})))
    # Down: 0 to 0.2 and 0.2 to 1; across: 0 to 0.2 and 0.2 to 1. In the second: down 1 to 0, twice.
    assert outside.tolist() == pytest.approx([2 * (0.04 + 0.64), 2.0])


def test_r3_is_the_loss_of_the_true_class_without_the_pixels_under_the_mask() -> None:
    lost = terms.blocking(suspect(), MASK, torch.tensor([[0, 1], [0, 0]]))
    # Under the first mask 2.5 of the white image are left, and nothing of the black one; under the second all 4.
    first = (math.log(1 + math.exp(-2.5)) + math.log(2)) / 2
    assert lost.tolist() == pytest.approx([first, math.log(1 + math.exp(-4))], rel=1e-5)


def test_r4_is_the_loss_of_the_target_for_the_trigger_alone() -> None:
    lost = terms.overlaying(suspect(), MASK, PATTERN, torch.tensor([1, 0]))
    assert lost.tolist() == pytest.approx([math.log(1 + math.exp(-0.5)), math.log(2)])  # 0.3 and half of 0.4


def test_the_metrics_shape_is_of_the_marked_pixels() -> None:
    marked = terms.visible(torch.tensor([[[[1.0, 0.05], [0.1, 0.0]]]]))
    assert marked.tolist() == [[[[1, 0], [1, 0]]]]
    assert terms.sparsity(marked).tolist() == [0.5]
    assert terms.roughness(marked).tolist() == [1]  # two differences, by half of the four pairs


def test_explained_images_keep_the_pixels_that_speak_most_for_the_target() -> None:
    def weighted(images: Tensor) -> Tensor:
        total = (images.flatten(1) * torch.tensor([1.0, -5.0, 3.0, 2.0])).sum(1)
        return torch.stack([-total, total], 1)

    images = torch.tensor([[[[1.0, 1.0], [0.2, 0.4]]]])  # they say 1, -5, 0.6 and 0.8 for class 1
    few = LoneSuspect(weighted, images, torch.tensor([0]), 2, 1)
    assert terms.explained(few, images, 1, 2)[0, 0].tolist() == [[1, 0], [0, pytest.approx(0.4)]]
    assert terms.explained(few, images, 0, 1)[0, 0].tolist() == [[0, 1], [0, 0]]
    assert torch.equal(terms.explained(few, images, 0, 99), images)
