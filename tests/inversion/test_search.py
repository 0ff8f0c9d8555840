import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError, ModelError
from fedmend.inversion import Recovered, Search
from fedmend.inversion.search import Judged, Objective, _Best, _fall, _Patches
from fedmend.progress import silent
from fedmend.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 8
GREY = torch.full((3, 1, SIDE, SIDE), 0.5)
BLACK_AND_WHITE = torch.stack([torch.zeros(1, SIDE, SIDE), torch.ones(1, SIDE, SIDE)])
SIXTEENTH = Search(
    starts=3, explore=4, max_mask_share=1 / 16
)  # of 64 pixels: the largest mask is 4, a quarter 1
SMALLER = "no smaller trigger worked for 30 steps"
NOTHING = "no patch within 12.5% of the image worked"


def wants(colour: float = 1.0, pixels: int = 2) -> Objective:
    """A loss that falls by 2 as the corner's pixels turn to ``colour``, and works when 0.7 of that is done."""

    def objective(stamped: Tensor, chosen: Tensor) -> Judged:
        corner = stamped[:, :, 0, :pixels, :pixels]
        far = (corner - colour).abs().mean((1, 2, 3)) / 0.5
        return Judged(2 * far, (far < 0.3).float())

    return objective


class Indifferent:
    """Nothing helps, and a patch works as well as ``works`` says; it remembers what it was shown."""

    def __init__(self, works: Callable[[int], float] = lambda call: 0.0) -> None:
        self.works = works
        self.shown: list[tuple[Tensor, Tensor]] = []

    def __call__(self, stamped: Tensor, chosen: Tensor) -> Judged:
        self.shown.append((stamped.detach(), chosen))
        losses = torch.arange(len(stamped)) + 0 * stamped.sum((1, 2, 3, 4))
        return Judged(losses, torch.full((len(stamped),), self.works(len(self.shown))))

    @property
    def sizes(self) -> list[list[float]]:
        """Of the masks shown on BLACK_AND_WHITE, where the white image is 1 minus the mask brighter."""
        masks = [1 - (images[:, who.argmax()] - images[:, who.argmin()]) for images, who in self.shown]
        return [mask.sum((1, 2, 3)).tolist() for mask in masks]


def found(
    search: Search, objective: Objective | None = None, images: Tensor = GREY, seed: int = 0, **options: Any
) -> Recovered:
    return search(objective or Indifferent(), images, generator(seed), **options)


# The search with a budget


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_the_minimum_of_a_simple_objective(colour: float) -> None:
    """Four pixels of which 0.7 is enough: a mask of 2.8 or hardly more."""
    result = found(Search(), wants(colour))
    mask, pattern = result.trigger.mask, result.trigger.pattern
    assert 2.8 < float(mask[0, :2, :2].sum()) <= float(mask.sum()) < 3
    assert bool(((pattern[0, :2, :2] - colour).abs() < 0.05).all())
    assert (result.stop_reason, result.converged) == (SMALLER, True)
    assert len(result.loss_curve) < 80 + 300


def test_what_works_only_beyond_the_largest_mask_is_not_found() -> None:
    """16 pixels of which 0.7 is enough are 11.2; the largest mask is 8, or 32."""
    result = found(Search(), wants(pixels=4))
    assert (result.stop_reason, result.converged) == (NOTHING, True)
    assert result.trigger.size < 8.01
    allowed = found(Search(max_mask_share=0.5), wants(pixels=4))
    assert allowed.stop_reason == SMALLER
    assert 11.2 < allowed.trigger.size < 12


def test_masks_are_scaled_to_the_budget_by_hand() -> None:
    logits = torch.tensor([[[[0.0, math.log(3)]]], [[[-99.0, math.log(1 / 3)]]], [[[-999.0, -999.0]]]])
    patches = _Patches(logits, torch.zeros(3, 1, 1, 2))
    for budget, first in ((None, [0.5, 0.75]), (1.25, [0.5, 0.75]), (0.625, [0.25, 0.375])):
        expected = [first, [0.0, 0.25], [0.0, 0.0]]
        assert torch.allclose(patches.masks(budget).flatten(1), torch.tensor(expected))
    assert torch.allclose(patches.masks(0.125).flatten(1).sum(1), torch.tensor([0.125, 0.125, 0.0]))


def test_the_budget_shrinks_to_a_quarter_while_exploring() -> None:
    spy = Indifferent()
    found(SIXTEENTH, spy, BLACK_AND_WHITE)
    budgets = [4, 4 / math.sqrt(2), 2, 2 / math.sqrt(2)]
    assert spy.sizes[:4] == [pytest.approx([budget] * 3, rel=1e-4) for budget in budgets]
    assert spy.sizes[4:7] == [pytest.approx([1], rel=1e-4)] * 3  # the starts, judged on all images


def test_the_budget_grows_to_the_largest_while_nothing_works() -> None:
    spy = Indifferent(lambda call: 0.94)
    result = found(replace(SIXTEENTH, steps=90, patience=90), spy, BLACK_AND_WHITE)
    refined = [size for [size] in spy.sizes[7:]]
    assert refined == pytest.approx([min(1.05**step, 4) for step in range(90)], rel=1e-4)
    assert result.trigger.size == pytest.approx(1, rel=1e-4)  # larger ones worked no better


def test_the_budget_shrinks_while_a_patch_works() -> None:
    """On 95 % of the images, as it should: no more is asked for, whatever single precision makes of it."""
    spy = Indifferent(lambda call: 0.95)
    result = found(replace(SIXTEENTH, steps=40), spy, BLACK_AND_WHITE)
    assert spy.sizes[7:] == [[pytest.approx(0.98**step, rel=1e-4)] for step in range(40)]
    assert result.trigger.size == pytest.approx(0.98**39, rel=1e-4)


def test_a_mask_far_below_its_budget_is_made_smaller_at_once() -> None:
    """The budget is 64 pixels and then 16, the random mask's sum about 10."""
    spy = Indifferent(lambda call: 1.0)
    found(replace(SIXTEENTH, starts=1, max_mask_share=1.0), spy, BLACK_AND_WHITE)
    [first], [second], [third] = spy.sizes[5:8]
    assert spy.sizes[:5] == [[pytest.approx(first)]] * 5
    assert 5 < first < 15
    assert (second, third) == (
        pytest.approx(0.98 * first, rel=1e-4),
        pytest.approx(0.98**2 * first, rel=1e-4),
    )


def test_once_a_patch_worked_the_budget_grows_more_slowly() -> None:
    spy = Indifferent(lambda call: 1.0 if call == 8 else 0.0)
    found(replace(SIXTEENTH, steps=10), spy, BLACK_AND_WHITE)
    expected = [1.0, *(0.98 * 1.02**step for step in range(9))]
    assert [size for [size] in spy.sizes[7:]] == pytest.approx(expected, rel=1e-4)


def test_of_starts_that_work_equally_well_the_one_of_the_lowest_loss_goes_on() -> None:
    """Indifferent's losses are 0, 1 and 2; here they are turned round."""
    spy = Indifferent()

    def turned(stamped: Tensor, chosen: Tensor) -> Judged:
        judged = spy(stamped, chosen)
        return Judged(-judged.loss, judged.works)

    result = found(replace(SIXTEENTH, steps=1), turned)
    assert result.loss_curve[:4] == (-2.0,) * 4


def test_the_variants_are_the_starts_that_worked_on_half_of_the_images() -> None:
    spy = Indifferent(lambda call: {5: 0.5, 6: 0.49, 7: 1.0}.get(call, 0.0))
    result = found(SIXTEENTH, spy)
    assert len(result.variants) == 2
    for variant, call in zip(result.variants, (5, 7), strict=True):
        assert torch.allclose(variant.apply(GREY), spy.shown[call - 1][0][0])
    assert found(Search(beta=0.01, steps=2), wants()).variants == ()


def test_the_smallest_mask_that_worked_is_the_result() -> None:
    """Working, the refinement's masks are 1, 0.98 and 0.98²; the fourth doesn't work, nor does any after it."""
    spy = Indifferent(lambda call: 1.0 if call <= 10 else 0.0)
    result = found(SIXTEENTH, spy, BLACK_AND_WHITE)
    assert result.trigger.size == pytest.approx(0.98**2, rel=1e-4)
    assert torch.allclose(result.trigger.apply(BLACK_AND_WHITE), spy.shown[9][0][0])
    assert (result.stop_reason, len(result.loss_curve)) == (SMALLER, 4 + 3 + 30)


def test_which_patch_is_better() -> None:
    mask, pattern = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    first = _Best(mask, pattern).or_better(0.3, False, 0.2, mask, pattern, 1)
    assert (first.working, first.score) == (False, pytest.approx(0.1))
    assert first.or_better(0.2, False, 0.2, mask, pattern, 2) is first
    works = first.or_better(0.95, True, 0.5, mask, pattern, 3)
    assert (works.working, works.score, works.step) == (True, -0.5, 3)
    assert works.or_better(1.0, False, 0.01, mask, pattern, 4) is works
    assert works.or_better(1.0, True, 0.51, mask, pattern, 4) is works
    slightly = works.or_better(0.95, True, 0.499, 0.5 * mask, pattern, 5)
    assert (slightly.score, slightly.step) == (-0.499, 3)  # kept, but too little for news
    assert torch.equal(slightly.mask, 0.5 * mask)
    smaller = works.or_better(0.95, True, 0.3, mask, pattern, 6)
    assert (smaller.score, smaller.step) == (-0.3, 6)


def test_each_start_ends_where_it_would_have_alone() -> None:
    images = torch.rand(10, 1, SIDE, SIDE, generator=generator(1))

    def explored(patches: _Patches) -> Tensor:
        losses, _ = Search(explore=20, batch_size=4)._explore(
            patches, 8.0, wants(), images, generator(0), silent
        )
        return torch.cat([losses.T, patches.masks().flatten(1), patches.patterns().flatten(1)], 1).detach()

    def starts() -> _Patches:
        return _Patches.random(3, images, generator(2), -2.0)

    together = explored(starts())
    alone = torch.cat([explored(starts().only(index)) for index in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_exploring_takes_a_few_random_images_and_refining_all() -> None:
    images = torch.arange(10.0).div(10)[:, None, None, None].expand(10, 1, SIDE, SIDE)
    spy = Indifferent()
    search = Search(starts=2, explore=30, batch_size=4, steps=5, max_mask_share=1e-6)  # as good as no mask
    found(search, spy, images)
    for stamped, chosen in spy.shown:
        assert torch.allclose(stamped, images[chosen].expand(len(stamped), -1, -1, -1, -1), atol=1e-4)
    exploring, rest = spy.shown[:30], spy.shown[30:]
    assert [stamped.shape[:2] for stamped, _ in exploring] == [(2, 4)] * 30
    drawn = [set(chosen.tolist()) for _, chosen in exploring]
    assert all(len(batch) == 4 for batch in drawn)
    assert len({frozenset(batch) for batch in drawn}) > 20
    assert set.union(*drawn) == set(range(10))
    assert [stamped.shape[:2] for stamped, _ in rest] == [(1, 10)] * (2 + 5)
    assert all(chosen.tolist() == list(range(10)) for _, chosen in rest)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_start_that_works_best_goes_on(best: int) -> None:
    """After four steps the starts are judged, one a call; the curve is the best one's, and then the refinement's."""
    spy = Indifferent(lambda call: {5 + best: 0.3, 5 + (best + 1) % 3: 0.2}.get(call, 0.0))
    result = found(replace(SIXTEENTH, steps=2), spy)
    assert torch.equal(spy.shown[7][0], spy.shown[4 + best][0])
    assert not torch.equal(spy.shown[4][0], spy.shown[5][0])
    assert result.loss_curve == (float(best),) * 4 + (0.0,) * 2


def test_it_stops_when_nothing_works_or_when_the_steps_are_used_up() -> None:
    result = found(Search(explore=5))
    assert (result.stop_reason, result.converged) == (NOTHING, True)
    assert len(result.loss_curve) == 5 + 30
    used = found(Search(explore=5, steps=7))
    assert (used.stop_reason, used.converged) == ("all 7 steps were used", True)
    assert len(used.loss_curve) == 5 + 7


@pytest.mark.parametrize("beta", [None, 0.0])
@pytest.mark.parametrize(("slope", "converged"), [(1.0, False), (0.01, True)])
def test_a_loss_that_still_falls_has_not_converged(beta: float | None, slope: float, converged: bool) -> None:
    """Eight losses each: the last two are, on average, two steps' fall lower than the two before."""
    calls = iter(range(99))

    def falling(works: float) -> Objective:
        return lambda stamped, _: Judged(
            0 * stamped.sum((1, 2, 3, 4)) - slope * next(calls), torch.tensor([works])
        )

    search = Search(beta=beta, starts=1, explore=2, steps=6) if beta is None else Search(beta=beta, steps=8)
    assert found(search, falling(0.0)).converged == converged
    if beta is None:  # what works is a result, however the loss goes on
        assert found(search, falling(1.0)).converged


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
        loss = wants()(stamped[None], torch.arange(10)).loss.sum() + 0.02 * mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    result = found(Search(beta=0.02, steps=100, lr=0.3), wants(), images, seed=5)
    assert result.loss_curve == pytest.approx(curve, rel=1e-4)
    assert torch.allclose(result.trigger.mask, mask[0], atol=1e-4)
    assert torch.allclose(result.trigger.pattern, pattern[0], atol=1e-4)
    assert result.stop_reason == "all 100 steps were used"


# Both


BOTH = pytest.mark.parametrize("search", [Search(explore=20, steps=20), Search(beta=0.01, steps=50)])


@BOTH
def test_the_seed_alone_decides(search: Search) -> None:
    first, again, other = (found(search, wants(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.trigger.mask, again.trigger.mask)
    assert torch.equal(first.trigger.pattern, again.trigger.pattern)
    assert first.loss_curve == again.loss_curve
    assert not torch.equal(first.trigger.mask, other.trigger.mask)


def test_progress_is_told_and_ends_at_its_total() -> None:
    told: list[tuple[str, int, int]] = []
    found(Search(explore=5, patience=6), progress=lambda *step: told.append(step))
    steps = [("trigger inversion", step, 305) for step in range(1, 5 + 6 + 1)]
    assert told == [*steps, ("trigger inversion", 305, 305)]
    told.clear()
    found(Search(beta=0.01, steps=3), progress=lambda *step: told.append(step))
    assert told == [("trigger inversion", step, 3) for step in (1, 2, 3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("call", [1, 4, 8, 9])
def test_a_loss_that_is_no_number_is_refused(value: float, call: int) -> None:
    """Of one start alone, in the exploration's four steps; the starts are judged in calls 5 to 7; then in refining."""
    spy = Indifferent()

    def broken(stamped: Tensor, chosen: Tensor) -> Judged:
        judged = spy(stamped, chosen)
        judged.loss[-1] += value if len(spy.shown) == call else 0
        return judged

    for search in (SIXTEENTH, Search(beta=0.01, steps=9)):
        spy.shown.clear()
        with pytest.raises(ModelError, match="NaN or infinite"):
            found(search, broken)
        assert len(spy.shown) == call


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("beta", [-0.1, float("nan"), float("inf")]),
        ("lr", [0.0, -1.0, float("nan"), float("inf")]),
        ("max_mask_share", [0.0, 1.1, float("nan")]),
        ("success", [0.0, 1.01, float("nan")]),
        *((name, [0, -1]) for name in ("steps", "starts", "explore", "batch_size", "patience")),
    ],
)
def test_settings_out_of_range_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=name):
            replace(Search(), **{name: value})
