from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmend.detection import SizeLimitedSearch
from fedmend.detection.search.judging import Best, Judge, Objective, smallest_mask
from fedmend.seeds import generator
from toy_objectives import SIDE, SIXTEENTH, Indifferent, Wants, found

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("count", "at_once"),
    [(10, [12, 8]), (32, [4] * 5), (43, [2] * 10), (64, [2] * 10), (65, [1] * 20), (200, [1] * 20)],
)
def test_at_most_128_images_or_one_patchs_are_judged_at_once(count: int, at_once: list[int]) -> None:
    spy = Indifferent()
    every = replace(SIXTEENTH, restarts=20, finalists=None, judged=count, steps=1)
    found(every, spy, torch.zeros(count, 1, 4, 4))
    assert spy.at_once == [*at_once, 1, 1]


def test_at_most_so_many_images_are_judged_the_same_all_along() -> None:
    """And all of them, in their order, where there are no more; which, is left to chance."""
    images = torch.arange(60.0).div(100).view(60, 1, 1, 1).expand(60, 1, 4, 4)
    chosen = []
    for seed in (0, 1):
        spy = Indifferent()
        SizeLimitedSearch(max_mask_fraction=1 / 16, steps=1)(spy, images, generator(seed))
        assert len({tuple(each.flatten().tolist()) for _, each in spy.judged}) == 1
        stamped, each = spy.judged[0]
        assert torch.allclose(stamped[0, :, 0, 0, 0], images[each[0], 0, 0, 0], atol=0.05 + 1 / 16)
        chosen.append(each[0].tolist())
    assert all(len(set(each)) == 48 and each == sorted(each) for each in chosen)
    assert chosen[0] != chosen[1]
    spy = Indifferent()
    found(SizeLimitedSearch(max_mask_fraction=1 / 16, steps=1, judged=60), spy, images)
    assert spy.judged[0][1][0].tolist() == [*range(60)]


def test_patches_judged_at_once_work_as_each_alone() -> None:
    """Five patches on 50 images, two at a time; a patch works as far as the corner is bright."""

    class Bright(Wants):
        def success(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
            return stamped[:, :, 0, 0, 0].mean(1)

    images = torch.rand(50, 1, SIDE, SIDE, generator=generator(1))
    masks, patterns = torch.rand(2, 5, 1, SIDE, SIDE, generator=generator(2))
    corner = [
        float((mask * pattern + (1 - mask) * images)[:, 0, 0, 0].mean())
        for mask, pattern in zip(masks, patterns, strict=True)
    ]
    judge = Judge.on(50, Bright(), images, generator(0))
    assert judge(masks, patterns).tolist() == pytest.approx(corner)
    assert len(set(corner)) == 5


class Needs(Indifferent):
    """Works with so many bright pixels or more; it remembers how many there were, and what was asked."""

    def __init__(self, pixels: int) -> None:
        self.pixels, self.tried, self.at_least = pixels, list[int](), list[float]()

    def success(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        self.tried.append(int((stamped[0, 0] > 0).sum()))
        self.at_least.append(at_least)
        return torch.tensor([0.95 if self.tried[-1] >= self.pixels else 0.94])


def smallest(mask: Tensor, objective: Objective) -> Tensor:
    """Of a white patch on two black images."""
    judge = Judge.on(2, objective, torch.zeros(2, *mask.shape[1:]), generator(0))
    return smallest_mask(mask, torch.ones_like(mask), judge, 0.95 - 1e-6)


def test_the_pixels_of_the_smallest_part_are_left_out_by_hand() -> None:
    """21 are needed. From 64 pixels down to 8, the root of 64, and up to 23, the root of 8 times 64; 21 and 23 are no
    more than an eighth apart. What doesn't do the whole is of no interest."""
    mask = torch.randperm(64, generator=generator(0)).add(1).div(64).view(1, 1, SIDE, SIDE)
    needs = Needs(21)
    assert torch.equal(smallest(mask, needs), mask * (mask > 43 / 64))
    assert needs.tried == [8, 23, 14, 18, 20, 21]
    assert needs.at_least == [pytest.approx(0.95, abs=1e-5)] * 6


def test_the_pixels_of_a_small_mask_are_left_out_to_the_last() -> None:
    """Those that aren't part of it don't count."""
    mask = torch.tensor([0.0, 0.3, 0.0, 0.9, 0.1, 0.7, 0.5, 0.0]).view(1, 1, 2, 4)
    for needed, least in ((0, 0.9), (1, 0.9), (2, 0.7), (3, 0.5), (4, 0.3), (5, 0.1), (6, 0.1)):
        needs = Needs(needed)
        assert torch.equal(smallest(mask, needs), mask * (mask >= least))
        assert max(needs.tried) < 5
    assert torch.equal(smallest(0 * mask, Needs(1)), 0 * mask)


def test_which_patch_is_better() -> None:
    """Of those that work the smallest, of others the one that works on most images."""
    mask, pattern = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    first = Best(0.1 * mask, pattern).or_better(0.0, False, mask, pattern)
    assert (first.working, first.success, first.size) == (False, 0.0, 4.0)
    assert first.or_better(0.0, False, 0.5 * mask, pattern) is first
    more = first.or_better(0.3, False, 2 * mask, pattern)
    assert (more.success, more.size) == (0.3, 8.0)
    works = more.or_better(0.2, True, 3 * mask, pattern + 1)
    assert (works.working, works.success, works.size) == (True, 0.2, 12.0)
    assert torch.equal(works.pattern, pattern + 1)
    assert works.or_better(1.0, False, mask, pattern) is works
    assert works.or_better(1.0, True, 3 * mask, pattern) is works
    assert works.or_better(0.1, True, 2.9 * mask, pattern).size == pytest.approx(11.6)
