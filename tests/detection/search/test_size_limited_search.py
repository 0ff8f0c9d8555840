import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.detection import SizeLimitedSearch
from fedmend.detection.search.judging import Judge
from fedmend.detection.search.patches import Patches
from fedmend.detection.search.size_limited_search import _Task
from fedmend.errors import ConfigError, ModelError
from fedmend.progress import silent
from fedmend.seeds import generator
from toy_objectives import (
    BLACK_AND_WHITE,
    GREY,
    NOTHING,
    SIDE,
    SIXTEENTH,
    SMALLER,
    Indifferent,
    Wants,
    about,
    found,
    says,
    sizes,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_the_minimum_of_a_simple_objective(colour: float) -> None:
    """Four pixels of which 0.7 is enough: three whole ones are left, and nothing else."""
    result = found(SizeLimitedSearch(steps=60, small=0.0), Wants(colour))
    mask, pattern = result.trigger.mask, result.trigger.pattern
    left = mask > 0
    assert int(left.sum()) == int(left[0, :2, :2].sum()) == 3
    assert float(mask[left].min()) > 0.9
    assert bool(((pattern[left] - colour).abs() < 0.05).all())
    assert (result.stop_reason, result.converged) == (SMALLER, True)
    assert len(result.loss_curve) < 25 + 60


def test_what_works_only_beyond_the_largest_mask_is_not_found() -> None:
    """16 pixels of which 0.7 is enough are 11.2; the largest mask is 8, or 32."""
    result = found(SizeLimitedSearch(), Wants(pixels=4))
    assert (result.stop_reason, result.converged) == (NOTHING, True)
    assert result.trigger.size < 8.01
    allowed = found(SizeLimitedSearch(max_mask_fraction=0.5), Wants(pixels=4))
    assert allowed.stop_reason == SMALLER
    assert 11.2 < allowed.trigger.size < 12.01


def test_the_limit_shrinks_to_a_quarter_while_exploring() -> None:
    spy = Indifferent()
    found(SIXTEENTH, spy, BLACK_AND_WHITE)
    limits = [4, 4 / math.sqrt(2), 2, 2 / math.sqrt(2)]
    assert sizes(spy.explored) == [pytest.approx([limit] * 3, rel=1e-4) for limit in limits]
    assert sizes(spy.judged[:3]) == about(1, 1, 1)  # the restarts


def test_each_restart_ends_where_it_would_have_alone() -> None:
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
    search = SizeLimitedSearch(explore=20, batch_size=4, early=False)
    judge = Judge.on(10, Watched(), images, generator(0))
    losses = _Task(search, judge, images, generator(0), silent).explore(together)
    for index in range(3):
        alone = starts().only([index])
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
    search = SizeLimitedSearch(  # as good as no mask
        restarts=2,
        explore=40,
        batch_size=3,
        steps=5,
        refine_batch_size=15,
        stride=5,
        max_mask_fraction=1e-6,
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
def test_exploring_ends_when_the_best_restart_works_within_a_quarter(works_at: int, steps: int) -> None:
    """Every three steps the restart with the lowest latest losses is judged, its mask scaled to the last limit."""
    spy = says({works_at: 0.96})
    found(replace(SIXTEENTH, explore=10, stride=3, steps=1, early=True), spy, BLACK_AND_WHITE)
    assert len(spy.explored) == steps
    early = spy.judged[: min(works_at, 3)]
    assert sizes(early) == about(*[1.0] * len(early))
    assert spy.at_least[: len(early)] == [pytest.approx(0.95, abs=1e-5)] * len(early)


@pytest.mark.parametrize("success", [0.5, 0.94])
def test_exploring_goes_on_where_the_best_restart_works_too_little(success: float) -> None:
    spy = Indifferent(lambda patch: success)
    found(replace(SIXTEENTH, explore=10, stride=3, steps=1, early=True), spy, BLACK_AND_WHITE)
    assert len(spy.explored) == 10


def test_exploring_goes_on_where_it_must_not_end_early() -> None:
    spy = Indifferent(lambda patch: 1.0)
    found(replace(SIXTEENTH, explore=10, stride=3, steps=1, early=False), spy, BLACK_AND_WHITE)
    assert len(spy.explored) == 10


def test_each_restart_sees_images_of_its_own() -> None:
    """Of 20 images: five restarts would all draw the same one in one step of 160,000."""
    images = torch.arange(20.0).div(20)[:, None, None, None].expand(20, 1, SIDE, SIDE)
    spy = Indifferent()
    found(
        SizeLimitedSearch(restarts=5, explore=8, batch_size=1, steps=1, max_mask_fraction=1e-6), spy, images
    )
    for stamped, chosen in spy.explored:
        assert chosen.shape == (5, 1)
        assert len(set(chosen.flatten().tolist())) > 1
        assert torch.allclose(stamped, images[chosen], atol=1e-4)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_restart_that_works_best_goes_on(best: int) -> None:
    """It alone is judged again; the curve is its coarse losses and then the refinement's."""
    spy = says({1 + best: 0.3, 1 + (best + 1) % 3: 0.2})
    result = found(replace(SIXTEENTH, steps=2), spy)
    assert torch.equal(spy.judged[3][0], spy.judged[best][0])
    assert not torch.equal(spy.judged[0][0], spy.judged[1][0])
    assert result.loss_curve == (float(best),) * 4 + (10.0,) * 2


class Lately(Indifferent):
    """Of its four restarts the last six coarse losses are in the mean 3, 1, 2 and 5."""

    CURVES = (
        (-99, -99, 3, 3, 3, 3, 3, 3),
        (9, 9, 1, 1, 1, 1, 1, 1),
        (0, 0, 4, 4, 4, 4, 4, -8),
        (0, 0, 30, 0, 0, 0, 0, 0),
    )
    SEARCH = replace(SIXTEENTH, restarts=4, explore=8, steps=1)

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        falling = super().coarse(stamped, chosen)
        return 0 * falling + torch.tensor(self.CURVES)[:, len(self.explored) - 1]


def test_the_restart_that_may_end_exploring_is_the_one_of_the_lowest_latest_losses() -> None:
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
def test_the_finalists_are_the_restarts_of_the_lowest_latest_losses(
    finalists: int | None, order: list[int]
) -> None:
    """They are judged in their order, and whichever works best goes on."""
    for place, start in enumerate(order, 1):
        spy = Lately(lambda patch, best=place: 0.2 * (patch == best))
        result = found(replace(Lately.SEARCH, finalists=finalists), spy)
        assert spy.at_once == [len(order), 1, 1]
        assert result.loss_curve[:8] == Lately.CURVES[start]


def test_of_restarts_that_work_equally_well_the_one_of_the_lowest_latest_losses_goes_on() -> None:
    assert found(Lately.SEARCH, Lately()).loss_curve[:8] == Lately.CURVES[1]


def test_the_variants_are_the_restarts_that_worked_on_half_of_the_images() -> None:
    spy = says({1: 0.5, 2: 0.49, 3: 1.0})
    result = found(SIXTEENTH, spy)
    assert len(result.variants) == 2
    for variant, patch in zip(result.variants, (1, 3), strict=True):
        assert torch.allclose(variant.apply(GREY), spy.judged[patch - 1][0][0])


def test_the_variants_are_finalists_in_the_order_of_the_restarts() -> None:
    """Judged were the second restart, the third and the first, of which the latter two work."""
    spy = Lately(lambda patch: 0.5 * (patch > 1))
    result = found(replace(Lately.SEARCH, finalists=3), spy)
    assert len(result.variants) == 2
    for variant, patch in zip(result.variants, (3, 2), strict=True):
        assert torch.allclose(variant.apply(GREY), spy.judged[patch - 1][0][0])


def test_the_seed_alone_decides() -> None:
    search = SizeLimitedSearch(explore=20, steps=20)
    first, again, other = (found(search, Wants(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.trigger.mask, again.trigger.mask)
    assert torch.equal(first.trigger.pattern, again.trigger.pattern)
    assert first.loss_curve == again.loss_curve
    assert not torch.equal(first.trigger.mask, other.trigger.mask)


def test_progress_is_reported_and_ends_at_its_total() -> None:
    """However early it stops: here after a stride."""
    told: list[tuple[str, int, int]] = []
    found(SizeLimitedSearch(explore=5, steps=60, stride=10), progress=lambda *step: told.append(step))
    steps = [("trigger inversion", step, 65) for step in range(1, 5 + 10 + 1)]
    assert told == [*steps, ("trigger inversion", 65, 65)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("call", [1, 4, 5, 9])
def test_a_loss_that_is_no_number_is_refused(value: float, call: int) -> None:
    """Of one restart alone, in the exploration's four steps; then in refining."""
    calls = 0

    class Broken(Wants):
        def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            last = torch.arange(len(stamped)) == len(stamped) - 1
            return self.far(stamped) + torch.where(last & (calls == call), value, 0.0)

        coarse = loss

    with pytest.raises(ModelError, match="NaN or infinite"):
        found(SIXTEENTH, Broken())
    assert calls == call


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lr", [0.0, -1.0, float("nan"), float("inf")]),
        ("max_mask_fraction", [0.0, 1.1, float("nan")]),
        ("success", [0.0, 1.01, float("nan")]),
        ("small", [-0.1, 1.1, float("nan")]),
        ("early", [1, "yes"]),
        *((name, [0, -1, 1.5]) for name in ("steps", "restarts", "explore", "batch_size", "judged")),
        *((name, [0, -1]) for name in ("finalists", "refine_batch_size", "stride")),
    ],
)
def test_settings_out_of_range_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=name):
            replace(SizeLimitedSearch(), **{name: value})
