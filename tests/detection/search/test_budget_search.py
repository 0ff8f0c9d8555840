import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.detection import Recovered, Search
from fedmend.detection.search.budget_search import Objective, _Best, _fall, _Judge
from fedmend.detection.search.patches import Patches
from fedmend.errors import ConfigError, ModelError
from fedmend.progress import silent
from fedmend.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 8
GREY = torch.full((3, 1, SIDE, SIDE), 0.5)
BLACK_AND_WHITE = torch.stack([torch.zeros(1, SIDE, SIDE), torch.ones(1, SIDE, SIDE)])
SIXTEENTH = Search(  # of 64 pixels: the largest mask is 4, a quarter 1
    starts=3, explore=4, batch_size=2, steps=60, stride=10, max_mask_share=1 / 16, small=0.0, early=False
)
SMALLER = "no smaller trigger worked"
NOTHING = "no patch within 12.5% of the image worked"


class Wants:
    """Its losses fall, by 2 and by 1, as the corner's pixels turn to ``colour``; it works when 0.7 of that is done."""

    def __init__(self, colour: float = 1.0, pixels: int = 2) -> None:
        self.colour, self.pixels = colour, pixels

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        return 2 * self.far(stamped)

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        return self.far(stamped)

    def works(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        return (self.far(stamped) < 0.3).float()

    def far(self, stamped: Tensor) -> Tensor:
        corner = stamped[:, :, 0, : self.pixels, : self.pixels]
        return (corner - self.colour).abs().mean((1, 2, 3)) / 0.5


class Indifferent:
    """Nothing helps, and the first, second, ... patch judged works as ``answers`` says; it remembers what it was shown
    and asked.

    The starts' coarse losses are 0, 1, 2, ..., the others 10, 11, 12, ...
    """

    def __init__(self, answers: Callable[[int], float] = lambda patch: 0.0) -> None:
        self.answers = answers
        self.at_once: list[int] = []
        self.at_least: list[float] = []
        self.explored: list[tuple[Tensor, Tensor]] = []
        self.refined: list[tuple[Tensor, Tensor]] = []
        self.judged: list[tuple[Tensor, Tensor]] = []

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        self.refined.append((stamped.detach(), chosen))
        return 10 + torch.arange(len(stamped)) + 0 * stamped.sum((1, 2, 3, 4))

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        self.explored.append((stamped.detach(), chosen))
        return torch.arange(len(stamped)) + 0 * stamped.sum((1, 2, 3, 4))

    def works(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        self.at_once.append(len(stamped))
        self.at_least.append(at_least)
        self.judged += [(patch.detach(), chosen[None]) for patch in stamped.split(1)]
        last = len(self.judged)
        return torch.tensor([self.answers(patch + 1) for patch in range(last - len(stamped), last)])


def says(answers: dict[int, float]) -> Indifferent:
    """Of these patches, and 0 of others."""
    return Indifferent(lambda patch: answers.get(patch, 0.0))


def sizes(shown: list[tuple[Tensor, Tensor]]) -> list[list[float]]:
    """Of the masks shown on BLACK_AND_WHITE, where the white image is 1 minus the mask brighter."""
    return [
        [
            float((1 - (patch[who.argmax()] - patch[who.argmin()])).sum())
            for patch, who in zip(*each, strict=True)
        ]
        for each in shown
    ]


def about(*expected: float) -> list[Any]:
    """The sizes of masks that were shown alone."""
    return [[pytest.approx(size, rel=1e-4)] for size in expected]


def found(
    search: Search, objective: Objective | None = None, images: Tensor = GREY, seed: int = 0, **options: Any
) -> Recovered:
    return search(objective or Indifferent(), images, generator(seed), **options)


# The search with a budget


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_the_minimum_of_a_simple_objective(colour: float) -> None:
    """Four pixels of which 0.7 is enough: three whole ones are left, and nothing else."""
    result = found(Search(steps=60, small=0.0), Wants(colour))
    mask, pattern = result.trigger.mask, result.trigger.pattern
    left = mask > 0
    assert int(left.sum()) == int(left[0, :2, :2].sum()) == 3
    assert float(mask[left].min()) > 0.9
    assert bool(((pattern[left] - colour).abs() < 0.05).all())
    assert (result.stop_reason, result.converged) == (SMALLER, True)
    assert len(result.loss_curve) < 25 + 60


def test_what_works_only_beyond_the_largest_mask_is_not_found() -> None:
    """16 pixels of which 0.7 is enough are 11.2; the largest mask is 8, or 32."""
    result = found(Search(), Wants(pixels=4))
    assert (result.stop_reason, result.converged) == (NOTHING, True)
    assert result.trigger.size < 8.01
    allowed = found(Search(max_mask_share=0.5), Wants(pixels=4))
    assert allowed.stop_reason == SMALLER
    assert 11.2 < allowed.trigger.size < 12.01


# Exploring


def test_the_budget_shrinks_to_a_quarter_while_exploring() -> None:
    spy = Indifferent()
    found(SIXTEENTH, spy, BLACK_AND_WHITE)
    budgets = [4, 4 / math.sqrt(2), 2, 2 / math.sqrt(2)]
    assert sizes(spy.explored) == [pytest.approx([budget] * 3, rel=1e-4) for budget in budgets]
    assert sizes(spy.judged[:3]) == about(1, 1, 1)  # the starts


def test_each_start_ends_where_it_would_have_alone() -> None:
    """On the same images of its own."""
    images = torch.rand(10, 1, SIDE, SIDE, generator=generator(1))
    drawn: list[Tensor] = []

    class Watched(Wants):
        def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
            drawn.append(chosen)
            return super().coarse(stamped, chosen)

    def starts() -> Patches:
        return Patches.random(3, images, generator(2), -2.0)

    together = starts()
    search = Search(explore=20, batch_size=4, early=False)
    judge = _Judge.on(10, Watched(), images, generator(0))
    losses = search._explore(together, 8.0, judge, images, generator(0), silent)
    for index in range(3):
        alone = starts().only(index)
        for step, chosen in enumerate(drawn):
            loss = alone.descend(
                images[chosen[[index]]],
                partial(Wants().coarse, chosen=chosen[[index]]),
                search.lr,
                8.0 * 0.25 ** (step / 20),
            )
            assert torch.allclose(loss, losses[step, index], atol=1e-5)
        for ends, end in zip(together(), alone(), strict=True):
            assert torch.allclose(ends[index], end[0], atol=1e-5)
    assert not torch.allclose(together()[0][0], together()[0][1], atol=0.1)


def test_a_step_takes_a_few_random_images_and_a_judgement_all() -> None:
    """So many in exploring, so many in refining."""
    images = torch.arange(20.0).div(20)[:, None, None, None].expand(20, 1, SIDE, SIDE)
    spy = Indifferent()
    search = Search(  # as good as no mask
        starts=2,
        explore=40,
        batch_size=3,
        steps=5,
        refine_batch_size=15,
        stride=5,
        max_mask_share=1e-6,
        early=False,
    )
    found(search, spy, images)
    for stamped, chosen in spy.explored + spy.refined + spy.judged:
        assert torch.allclose(stamped, images[chosen], atol=1e-4)
    for shown, steps, starts, count in ((spy.explored, 40, 2, 3), (spy.refined, 5, 1, 15)):
        assert [stamped.shape[:2] for stamped, _ in shown] == [(starts, count)] * steps
        for start in range(starts):
            drawn = {frozenset(chosen[start].tolist()) for _, chosen in shown}
            assert all(len(batch) == count for batch in drawn)
            assert len(drawn) >= 0.8 * steps
            assert frozenset.union(*drawn) == set(range(20))
    assert [stamped.shape[:2] for stamped, _ in spy.judged] == [(1, 20)] * (2 + 2)


@pytest.mark.parametrize(("works_at", "steps"), [(1, 3), (2, 6), (3, 9), (4, 10)])
def test_exploring_ends_when_the_best_start_works_within_a_quarter(works_at: int, steps: int) -> None:
    """Every three steps the start with the lowest latest losses is judged, its mask scaled to the last budget."""
    spy = says({works_at: 0.96})
    found(replace(SIXTEENTH, explore=10, stride=3, steps=1, early=True), spy, BLACK_AND_WHITE)
    assert len(spy.explored) == steps
    early = spy.judged[: min(works_at, 3)]
    assert sizes(early) == about(*[1.0] * len(early))
    assert spy.at_least[: len(early)] == [pytest.approx(0.95, abs=1e-5)] * len(early)


@pytest.mark.parametrize("success", [0.5, 0.94])
def test_exploring_goes_on_where_the_best_start_works_too_little(success: float) -> None:
    spy = Indifferent(lambda patch: success)
    found(replace(SIXTEENTH, explore=10, stride=3, steps=1, early=True), spy, BLACK_AND_WHITE)
    assert len(spy.explored) == 10


def test_exploring_goes_on_where_it_must_not_end_early() -> None:
    spy = Indifferent(lambda patch: 1.0)
    found(replace(SIXTEENTH, explore=10, stride=3, steps=1, early=False), spy, BLACK_AND_WHITE)
    assert len(spy.explored) == 10


def test_each_start_sees_images_of_its_own() -> None:
    """Of 20 images: five starts would all draw the same one in one step of 160,000."""
    images = torch.arange(20.0).div(20)[:, None, None, None].expand(20, 1, SIDE, SIDE)
    spy = Indifferent()
    found(Search(starts=5, explore=8, batch_size=1, steps=1, max_mask_share=1e-6), spy, images)
    for stamped, chosen in spy.explored:
        assert chosen.shape == (5, 1)
        assert len(set(chosen.flatten().tolist())) > 1
        assert torch.allclose(stamped, images[chosen], atol=1e-4)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_start_that_works_best_goes_on(best: int) -> None:
    """It alone is judged again; the curve is its coarse losses and then the refinement's."""
    spy = says({1 + best: 0.3, 1 + (best + 1) % 3: 0.2})
    result = found(replace(SIXTEENTH, steps=2), spy)
    assert torch.equal(spy.judged[3][0], spy.judged[best][0])
    assert not torch.equal(spy.judged[0][0], spy.judged[1][0])
    assert result.loss_curve == (float(best),) * 4 + (10.0,) * 2


class Lately(Indifferent):
    """Of its four starts the last six coarse losses are in the mean 3, 1, 2 and 5."""

    CURVES = (
        (-99, -99, 3, 3, 3, 3, 3, 3),
        (9, 9, 1, 1, 1, 1, 1, 1),
        (0, 0, 4, 4, 4, 4, 4, -8),
        (0, 0, 30, 0, 0, 0, 0, 0),
    )
    SEARCH = replace(SIXTEENTH, starts=4, explore=8, steps=1)

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        falling = super().coarse(stamped, chosen)
        return 0 * falling + torch.tensor(self.CURVES)[:, len(self.explored) - 1]


def test_the_start_that_may_end_exploring_is_the_one_of_the_lowest_latest_losses() -> None:
    """After seven of the eight steps the first one's; in the end it is the third."""
    spy = Lately()
    found(replace(Lately.SEARCH, stride=7, early=True), spy)
    assert [torch.equal(spy.judged[0][0], spy.judged[1 + place][0]) for place in range(4)] == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("finalists", "order"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 0]), (9, [1, 2, 0, 3]), (None, [1, 2, 0, 3])],
)
def test_the_finalists_are_the_starts_of_the_lowest_latest_losses(
    finalists: int | None, order: list[int]
) -> None:
    """They are judged in their order, and whichever works best goes on."""
    for place, start in enumerate(order, 1):
        spy = Lately(lambda patch, best=place: 0.2 * (patch == best))
        result = found(replace(Lately.SEARCH, finalists=finalists), spy)
        assert spy.at_once == [len(order), 1, 1]
        assert result.loss_curve[:8] == Lately.CURVES[start]


def test_of_starts_that_work_equally_well_the_one_of_the_lowest_latest_losses_goes_on() -> None:
    assert found(Lately.SEARCH, Lately()).loss_curve[:8] == Lately.CURVES[1]


def test_the_variants_are_the_starts_that_worked_on_half_of_the_images() -> None:
    spy = says({1: 0.5, 2: 0.49, 3: 1.0})
    result = found(SIXTEENTH, spy)
    assert len(result.variants) == 2
    for variant, patch in zip(result.variants, (1, 3), strict=True):
        assert torch.allclose(variant.apply(GREY), spy.judged[patch - 1][0][0])
    assert found(Search(beta=0.01, steps=2), Wants()).variants == ()


def test_the_variants_are_finalists_in_the_order_of_the_starts() -> None:
    """Judged were the second start, the third and the first, of which the latter two work."""
    spy = Lately(lambda patch: 0.5 * (patch > 1))
    result = found(replace(Lately.SEARCH, finalists=3), spy)
    assert len(result.variants) == 2
    for variant, patch in zip(result.variants, (3, 2), strict=True):
        assert torch.allclose(variant.apply(GREY), spy.judged[patch - 1][0][0])


@pytest.mark.parametrize(
    ("count", "at_once"),
    [(10, [12, 8]), (32, [4] * 5), (43, [2] * 10), (64, [2] * 10), (65, [1] * 20), (200, [1] * 20)],
)
def test_at_most_128_images_or_one_patchs_are_judged_at_once(count: int, at_once: list[int]) -> None:
    spy = Indifferent()
    every = replace(SIXTEENTH, starts=20, finalists=None, judged=count, steps=1)
    found(every, spy, torch.zeros(count, 1, 4, 4))
    assert spy.at_once == [*at_once, 1, 1]


def test_at_most_so_many_images_are_judged_the_same_all_along() -> None:
    """And all of them, in their order, where there are no more; which, is left to chance."""
    images = torch.arange(60.0).div(100).view(60, 1, 1, 1).expand(60, 1, 4, 4)
    chosen = []
    for seed in (0, 1):
        spy = Indifferent()
        Search(max_mask_share=1 / 16, steps=1)(spy, images, generator(seed))
        assert len({tuple(each.flatten().tolist()) for _, each in spy.judged}) == 1
        stamped, each = spy.judged[0]
        assert torch.allclose(stamped[0, :, 0, 0, 0], images[each[0], 0, 0, 0], atol=0.05 + 1 / 16)
        chosen.append(each[0].tolist())
    assert all(len(set(each)) == 48 and each == sorted(each) for each in chosen)
    assert chosen[0] != chosen[1]
    spy = Indifferent()
    found(Search(max_mask_share=1 / 16, steps=1, judged=60), spy, images)
    assert spy.judged[0][1][0].tolist() == [*range(60)]


def test_patches_judged_at_once_work_as_each_alone() -> None:
    """Five patches on 50 images, two at a time; a patch works as far as the corner is bright."""

    class Bright(Wants):
        def works(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
            return stamped[:, :, 0, 0, 0].mean(1)

    images = torch.rand(50, 1, SIDE, SIDE, generator=generator(1))
    masks, patterns = torch.rand(2, 5, 1, SIDE, SIDE, generator=generator(2))
    corner = [
        float((mask * pattern + (1 - mask) * images)[:, 0, 0, 0].mean())
        for mask, pattern in zip(masks, patterns, strict=True)
    ]
    judge = _Judge.on(50, Bright(), images, generator(0))
    assert judge(masks, patterns).tolist() == pytest.approx(corner)
    assert len(set(corner)) == 5


# Refining: after the three starts, the fourth patch judged is its first


@pytest.mark.parametrize(
    ("answers", "budgets", "size"),
    [
        (dict.fromkeys(range(9), 0.29), [4], 4),
        (dict.fromkeys(range(9), 0.3), [2, 4], 2),
        (dict.fromkeys(range(9), 0.94), [2, 4], 2),
        ({4: 0.94}, [2, 4], 2),
        ({4: 0.3, 6: 0.29}, [2, 4], 4),
        ({5: 0.29, 6: 0.5}, [4], 4),
        ({5: 0.4, 6: 0.5, 7: 0.5}, [4, 4, 4], 4),
        ({4: 0.3, 5: 0.4, 6: 0.5, 7: 0.4}, [2, 4, 4], 4),
    ],
)
def test_until_a_patch_works_the_budget_doubles_or_goes_to_the_largest(
    answers: dict[int, float], budgets: list[int], size: int
) -> None:
    """Before the first step, too; it doubles where 0.3 is reached.

    With the largest it learns on while it works on 0.3 and more than before. The best after some refinement is the
    result, the first of several.
    """
    spy = says(answers)
    result = found(SIXTEENTH, spy, BLACK_AND_WHITE)
    assert sizes(spy.refined) == about(*[budget for budget in budgets for _ in range(10)])
    assert sizes(spy.judged[3:]) == about(1, *budgets)
    assert set(spy.at_least) == {0.3}
    assert result.trigger.size == pytest.approx(size, rel=1e-4)
    assert result.stop_reason == "no patch within 6.2% of the image worked"


def test_a_patch_that_works_learns_on_within_four_fifths_of_what_is_left() -> None:
    """On 95 % of the images, as it should: no more is asked for, whatever single precision makes of it."""
    spy = says({4: 0.95, 6: 0.95, 11: 0.95})
    result = found(SIXTEENTH, spy, BLACK_AND_WHITE)
    # It works with 23 of 64 pixels, not with 8, 14, 18, 20 or 21.
    [[whole], [part]] = sizes([spy.judged[3], spy.judged[5]])
    assert (whole, 0.3 < part < 0.9) == (pytest.approx(1, rel=1e-4), True)
    # Not with 8, 23, 38, 49 or 56.
    assert sizes([spy.judged[10], spy.judged[16]]) == about(0.8 * part, 0.8**2 * part)
    assert sizes(spy.refined) == about(*[0.8 * part] * 10, *[0.8**2 * part] * 10)
    assert torch.allclose(result.trigger.apply(BLACK_AND_WHITE), spy.judged[10][0][0])
    assert (result.stop_reason, result.converged, len(spy.judged)) == (SMALLER, True, 17)


@pytest.mark.parametrize(("small", "steps"), [(1.0, 0), (0.6 / 64, 10), (0.48 / 64, 20)])
def test_it_ends_with_a_mask_that_is_small_enough(small: float, steps: int) -> None:
    """The first patch works with 23 of 64 pixels, a mask of 0.3 to 0.9; then one of four fifths of that does."""
    spy = says({4: 0.95, 6: 0.95, 11: 0.95})
    result = found(replace(SIXTEENTH, small=small), spy, BLACK_AND_WHITE)
    [[part]] = sizes([spy.judged[5]])
    assert 0.6 < part < 0.75  # so that four fifths are between 0.48 and 0.6
    expected = [part, 0.8 * part, 0.8 * part][steps // 10]
    assert (result.trigger.size, len(spy.refined)) == (pytest.approx(expected, rel=1e-4), steps)
    reason = f"a trigger within {small:.1%} of the image worked" if steps < 20 else SMALLER
    assert (result.stop_reason, result.converged) == (reason, True)


def test_what_works_only_when_larger_is_then_made_smaller() -> None:
    spy = says({4: 0.5, 5: 1.0})
    result = found(SIXTEENTH, spy, BLACK_AND_WHITE)
    assert sizes(spy.refined) == about(*[2] * 10, *[1.6] * 10)
    assert (result.stop_reason, result.trigger.size) == (SMALLER, pytest.approx(2, rel=1e-4))


def test_a_mask_far_below_its_budget_is_made_smaller_at_once() -> None:
    """The budget is 64 pixels and then 16, the random mask's sum about 7."""
    spy = says({2: 1.0})
    found(replace(SIXTEENTH, starts=1, max_mask_share=1.0), spy, BLACK_AND_WHITE)
    [[size]] = sizes(spy.judged[:1])
    assert 5 < size < 15
    assert sizes(spy.explored + spy.judged[1:2]) == about(*[size] * 5)
    assert sizes(spy.refined) == about(*[0.8 * size] * 10)


@pytest.mark.parametrize("steps", [1, 10, 12, 20])
def test_the_patch_of_the_last_step_is_judged(steps: int) -> None:
    """Each works, but not with 8, 23, 38, 49 or 56 of its pixels."""
    spy = Indifferent(lambda patch: float(patch % 6 == 4))
    result = found(replace(SIXTEENTH, steps=steps), spy, BLACK_AND_WHITE)
    smaller = math.ceil(steps / 10)
    assert (len(spy.refined), len(spy.judged)) == (steps, 3 + 6 * (1 + smaller))
    assert result.trigger.size == pytest.approx(0.8**smaller, rel=1e-4)
    assert (result.stop_reason, result.converged) == (f"all {steps} steps were used", True)


class Needs(Indifferent):
    """Works with so many bright pixels or more; it remembers how many there were, and what was asked."""

    def __init__(self, pixels: int) -> None:
        self.pixels, self.tried, self.at_least = pixels, list[int](), list[float]()

    def works(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        self.tried.append(int((stamped[0, 0] > 0).sum()))
        self.at_least.append(at_least)
        return torch.tensor([0.95 if self.tried[-1] >= self.pixels else 0.94])


def smallest(mask: Tensor, objective: Objective) -> Tensor:
    """Of a white patch on two black images."""
    judge = _Judge.on(2, objective, torch.zeros(2, *mask.shape[1:]), generator(0))
    return Search()._smallest(mask, torch.ones_like(mask), judge)


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
    first = _Best(0.1 * mask, pattern).or_better(0.0, False, mask, pattern)
    assert (first.working, first.works, first.size) == (False, 0.0, 4.0)
    assert first.or_better(0.0, False, 0.5 * mask, pattern) is first
    more = first.or_better(0.3, False, 2 * mask, pattern)
    assert (more.works, more.size) == (0.3, 8.0)
    works = more.or_better(0.2, True, 3 * mask, pattern + 1)
    assert (works.working, works.works, works.size) == (True, 0.2, 12.0)
    assert torch.equal(works.pattern, pattern + 1)
    assert works.or_better(1.0, False, mask, pattern) is works
    assert works.or_better(1.0, True, 3 * mask, pattern) is works
    assert works.or_better(0.1, True, 2.9 * mask, pattern).size == pytest.approx(11.6)


def test_it_stops_when_the_steps_are_used_up() -> None:
    """Before the largest mask, which is tried from the first step on or the tenth, had a whole stride."""
    for steps, works in ((7, 0.0), (15, 0.3)):
        used = found(Search(explore=5, steps=steps, stride=10), says(dict.fromkeys(range(99), works)))
        assert (used.stop_reason, used.converged) == (f"all {steps} steps were used", True)
        assert len(used.loss_curve) == 5 + steps


@pytest.mark.parametrize("beta", [None, 0.0])
@pytest.mark.parametrize(("slope", "converged"), [(0.06, False), (0.04, True)])
def test_a_loss_that_still_falls_has_not_converged(beta: float | None, slope: float, converged: bool) -> None:
    """Eight losses each: the last two are, on average, two steps' fall lower than the two before; 0.1 is little."""
    calls = iter(range(99))

    class Falling(Indifferent):
        def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
            return 0 * super().loss(stamped, chosen) - slope * next(calls)

        coarse = loss

    search = Search(starts=1, explore=2, steps=6, stride=10) if beta is None else Search(beta=beta, steps=8)
    assert found(search, Falling()).converged == converged
    if beta is None:  # what works is a result, and to give up is one, however the loss goes on
        assert found(search, Falling(lambda patch: 1.0)).converged
        assert found(replace(search, steps=60), Falling()).converged


def test_how_far_a_loss_fell_by_hand() -> None:
    assert _fall([99, 99, 9, 9, 5, 7, 1, 3]) == pytest.approx(6 - 2)
    assert _fall([9, 4, 6, 1, 3]) == pytest.approx(1 - 3)
    assert _fall([1, 1, 1]) == math.inf


# The paper's search


def test_a_given_beta_is_the_papers_search_by_hand() -> None:
    """One start, all steps on all images whatever works, the L1 term in the loss, and the last mask and pattern."""
    images = torch.rand(10, 1, SIDE, SIDE, generator=generator(1))
    start = generator(5)
    parts = [torch.randn(1, 1, SIDE, SIDE, generator=start).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.Adam(parts, 0.3, betas=(0.5, 0.9))
    curve = []
    for _ in range(100):
        mask, pattern = (part.sigmoid() for part in parts)
        stamped = mask * pattern + (1 - mask) * images
        loss = Wants().loss(stamped[None], torch.arange(10)).sum() + 0.02 * mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    result = found(Search(beta=0.02, steps=100, lr=0.3), Wants(), images, seed=5)
    assert result.loss_curve == pytest.approx(curve, rel=1e-4)
    assert torch.allclose(result.trigger.mask, mask[0], atol=1e-4)
    assert torch.allclose(result.trigger.pattern, pattern[0], atol=1e-4)
    assert result.stop_reason == "all 100 steps were used"


# Both


BOTH = pytest.mark.parametrize("search", [Search(explore=20, steps=20), Search(beta=0.01, steps=50)])


@BOTH
def test_the_seed_alone_decides(search: Search) -> None:
    first, again, other = (found(search, Wants(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.trigger.mask, again.trigger.mask)
    assert torch.equal(first.trigger.pattern, again.trigger.pattern)
    assert first.loss_curve == again.loss_curve
    assert not torch.equal(first.trigger.mask, other.trigger.mask)


def test_progress_is_told_and_ends_at_its_total() -> None:
    """However early it stops: here after a stride."""
    told: list[tuple[str, int, int]] = []
    found(Search(explore=5, steps=60, stride=10), progress=lambda *step: told.append(step))
    steps = [("trigger inversion", step, 65) for step in range(1, 5 + 10 + 1)]
    assert told == [*steps, ("trigger inversion", 65, 65)]
    told.clear()
    found(Search(beta=0.01, steps=3), progress=lambda *step: told.append(step))
    assert told == [("trigger inversion", step, 3) for step in (1, 2, 3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("call", [1, 4, 5, 9])
def test_a_loss_that_is_no_number_is_refused(value: float, call: int) -> None:
    """Of one start alone, in the exploration's four steps; then in refining."""
    calls = 0

    class Broken(Wants):
        def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            last = torch.arange(len(stamped)) == len(stamped) - 1
            return self.far(stamped) + torch.where(last & (calls == call), value, 0.0)

        coarse = loss

    for search in (SIXTEENTH, Search(beta=0.01, steps=9)):
        calls = 0
        with pytest.raises(ModelError, match="NaN or infinite"):
            found(search, Broken())
        assert calls == call


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("beta", [-0.1, float("nan"), float("inf")]),
        ("lr", [0.0, -1.0, float("nan"), float("inf")]),
        ("max_mask_share", [0.0, 1.1, float("nan")]),
        ("success", [0.0, 1.01, float("nan")]),
        *((name, [0, -1]) for name in ("steps", "starts", "explore", "batch_size")),
        *((name, [0, -1]) for name in ("finalists", "refine_batch_size", "stride")),
    ],
)
def test_settings_out_of_range_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=name):
            replace(Search(), **{name: value})
