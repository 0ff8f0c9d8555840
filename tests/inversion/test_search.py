import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError, ModelError
from fedmend.inversion import Recovered, Search
from fedmend.inversion.search import Judged, _Best, _fall
from fedmend.progress import silent
from fedmend.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")

Objective = Callable[[Tensor], tuple[Tensor, float]]
SIDE = 8
IMAGES = torch.full((3, 1, SIDE, SIDE), 0.5)
LIMIT = 1 / (0.125 * SIDE * SIDE)


def wants(colour: float = 1.0, pixels: int = 2) -> Objective:
    """Falls by 2 as the corner's pixels turn to ``colour``, and then works; nothing else matters."""

    def objective(stamped: Tensor) -> tuple[Tensor, float]:
        far = (stamped[:, 0, :pixels, :pixels] - colour).abs().mean() / 0.5
        return 2 * far, 1.0 if far < 0.3 else 0.0

    return objective


def indifferent(stamped: Tensor) -> tuple[Tensor, float]:
    """Nothing helps and nothing works."""
    return 0 * stamped.sum(), 0.0


def found(search: Search, objective: Objective = indifferent, seed: int = 0, **options: Any) -> Recovered:
    def judged(stamped: Tensor) -> Judged:
        loss, works = objective(stamped)
        return Judged(loss, 0 * loss, works)

    return search(judged, IMAGES, generator(seed), **options)


def test_the_minimum_of_a_simple_objective() -> None:
    for colour in (0.0, 1.0):
        result = found(Search(), wants(colour))
        mask, pattern = result.trigger.mask, result.trigger.pattern
        assert float(mask[0, :2, :2].sum()) > 0.7 * float(mask.sum()) > 1.4
        assert float(mask[0, 2:].max()) < 0.15
        assert bool(((pattern[0, :2, :2] - colour).abs() < 0.2).all())
        assert result.converged
        assert result.stop_reason == "no smaller trigger worked for 50 steps"
        assert len(result.loss_curve) < 300


def test_a_given_beta_is_the_papers_search() -> None:
    """All steps, and the last mask and pattern, even where the mask has vanished."""
    result = found(Search(beta=0.05, steps=150))
    assert len(result.loss_curve) == 150
    assert result.stop_reason == "all 150 steps were used"
    assert float(result.trigger.mask.max()) < 0.1
    assert found(Search(beta=0.05, steps=1)).trigger.mask.sum() > result.trigger.mask.sum()


def test_the_loss_curve_has_the_l1_term() -> None:
    result = found(Search(beta=0.05, steps=1))
    assert result.loss_curve[0] == pytest.approx(0.05 * float(result.trigger.mask.sum()), rel=1e-5)
    no_weight = found(Search(beta=0.0, steps=3))
    assert no_weight.loss_curve == (0.0, 0.0, 0.0)


def test_it_stops_early_when_the_mask_vanishes() -> None:
    result = found(Search(starts=1))
    assert result.stop_reason == "the mask vanished: no patch was worth its size"
    assert result.converged
    assert len(result.loss_curve) < 150


def test_it_stops_when_the_loss_no_longer_changes() -> None:
    """A mask that is worth its size, but works on nothing."""

    def objective(stamped: Tensor) -> tuple[Tensor, float]:
        return -9 * (stamped[:, 0, :2, :2] - 0.5).abs().mean(), 0.0

    result = found(Search(starts=1), objective)
    assert result.stop_reason == "the loss stopped changing"
    assert result.converged
    assert len(result.loss_curve) < 300


def test_a_search_cut_short_has_not_converged() -> None:
    result = found(Search(steps=30), wants())
    assert not result.converged
    assert result.stop_reason == "all 30 steps were used"


def test_the_mask_stays_where_it_may_be() -> None:
    allowed = torch.ones(1, SIDE, SIDE)
    allowed[0, 0] = 0
    for search in (Search(starts=1), Search(beta=0.01, steps=50)):
        mask = found(search, wants(), allowed=allowed).trigger.mask
        assert not bool(mask[0, 0].any())
    assert float(mask[0, 1, :2].min()) > 0.5


def counted(objective: Objective, works: Callable[[int], float] | None = None) -> tuple[Objective, list[int]]:
    calls: list[int] = []

    def counting(stamped: Tensor) -> tuple[Tensor, float]:
        calls.append(len(calls))
        loss, value = objective(stamped)
        return loss, value if works is None else works(len(calls))

    return counting, calls


def test_a_second_start_where_the_first_finds_nothing() -> None:
    first = len(found(Search(starts=1)).loss_curve)
    objective, calls = counted(indifferent)
    found(Search(), objective)
    assert len(calls) > first

    def late(stamped: Tensor) -> tuple[Tensor, float]:
        return (wants() if len(calls) > first else indifferent)(stamped)

    objective, calls = counted(late)
    result = found(Search(), objective)
    assert result.stop_reason == "no smaller trigger worked for 50 steps"
    assert float(result.trigger.mask[0, :2, :2].mean()) > 0.6


def test_no_second_start_where_the_first_finds_one() -> None:
    objective, calls = counted(wants())
    assert len(found(Search(starts=5), objective).loss_curve) == len(calls)


def test_a_mask_that_is_too_large_never_counts_as_working() -> None:
    """A quarter of the image must be covered for it to work, and that is worth any price."""

    def large(stamped: Tensor) -> tuple[Tensor, float]:
        loss, works = wants(pixels=4)(stamped)
        return 1e6 * loss, works

    objective, calls = counted(large)
    result = found(Search(starts=3, steps=250), objective)
    assert large(result.trigger.apply(IMAGES))[1] == 1.0
    assert result.trigger.size / SIDE**2 > 0.125
    assert result.stop_reason != "no smaller trigger worked for 50 steps"
    assert len(calls) > len(result.loss_curve)  # so it was begun again
    allowed = found(Search(steps=250, max_mask_share=0.5), large)
    assert allowed.stop_reason == "no smaller trigger worked for 50 steps"


def test_every_second_start_is_guided(monkeypatch: pytest.MonkeyPatch) -> None:
    start, guided = Search._start, []

    def spied(self: Search, *arguments: Any, **options: Any) -> Any:
        guided.append(options["guided"])
        return start(self, *arguments, **options)

    monkeypatch.setattr(Search, "_start", spied)
    found(Search(starts=5, warm_up=10))
    found(Search(beta=0.01, steps=1))
    assert guided == [False, True, False, True, False, False]


def test_the_guides_weight_by_hand() -> None:
    """A mask that may be nowhere, and a loss of 0: what is left is the guide, here -1, in the warm-up."""

    def judged(stamped: Tensor) -> Judged:
        nothing = 0 * stamped.sum()
        return Judged(nothing, nothing - 1, 0.0)

    curves = {
        guided: Search(warm_up=10)
        ._start(judged, IMAGES, generator(0), silent, torch.zeros(1, SIDE, SIDE), guided=guided)[1]
        .loss_curve
        for guided in (True, False)
    }
    assert curves[False] == (0.0,) * 11
    assert curves[True] == pytest.approx([-1] * 4 + [-(7 - step) / 7 for step in range(1, 8)])


def test_a_guided_start_finds_what_the_loss_alone_does_not_lead_to() -> None:
    """The loss is flat until the corner has half of its colour, and only the guide shows the way there."""

    def judged(stamped: Tensor) -> Judged:
        far = (stamped[:, 0, :2, :2] - 1).abs().mean() / 0.5
        return Judged(4 * far.clamp_max(0.5), (far - 1).clamp(-1, 0), 1.0 if far < 0.3 else 0.0)

    lost, led = (Search(starts=starts)(judged, IMAGES, generator(0)) for starts in (1, 2))
    assert lost.stop_reason == "the mask vanished: no patch was worth its size"
    assert led.stop_reason == "no smaller trigger worked for 50 steps"
    assert judged(led.trigger.apply(IMAGES)).works == 1.0


def test_of_several_starts_the_best_is_the_result() -> None:
    """The first start works on 20 % of the images, later ones on none."""
    first = len(found(Search(starts=1)).loss_curve)
    objective, _ = counted(indifferent, lambda call: 0.2 if call <= first else 0.0)
    one = found(Search(starts=1), counted(indifferent, lambda _: 0.2)[0])
    best = found(Search(starts=3), objective)
    assert torch.equal(best.trigger.mask, one.trigger.mask)


def test_the_smallest_of_the_masks_that_work_is_kept() -> None:
    mask, pattern = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    best = _Best(mask, pattern)
    first = best.or_better(0.3, False, 0.2, mask, pattern, 1)
    assert (first.working, first.score) == (False, pytest.approx(0.1))
    worse = first.or_better(0.2, False, 0.2, mask, pattern, 2)
    assert worse is first
    works = first.or_better(0.95, True, 0.5, mask, pattern, 3)
    assert (works.working, works.score, works.step) == (True, -0.5, 3)
    assert works.or_better(1.0, False, 0.01, mask, pattern, 4) is works
    slightly = works.or_better(0.95, True, 0.499, 0.5 * mask, pattern, 5)
    assert (slightly.score, slightly.step) == (-0.499, 3)  # kept, but too little for news
    smaller = works.or_better(0.95, True, 0.3, mask, pattern, 6)
    assert (smaller.score, smaller.step) == (-0.3, 6)


def test_the_weight_rises_to_its_limit_and_stays_there() -> None:
    """With a mask that can't change, the L1 term shows the weight of each step."""
    allowed = torch.zeros(1, SIDE, SIDE)
    allowed[0, 0, 0] = 1e-9  # a mask too small to be worth a gradient, beside Adam's own epsilon

    def pays(stamped: Tensor) -> tuple[Tensor, float]:
        return 0 * stamped.sum(), 0.3

    search = Search(starts=1, warm_up=10, steps=11, max_mask_share=1.0)
    result = found(search, pays, allowed=allowed)
    size = float(torch.sigmoid(torch.tensor(-2.0))) * 1e-9
    assert result.loss_curve[0] == 0
    assert result.loss_curve[6] < result.loss_curve[9]
    assert 0 < result.loss_curve[9] < 10 / (SIDE * SIDE) * size


@pytest.mark.parametrize(
    ("beta", "works", "small", "expected"),
    [
        (LIMIT, 0.95, True, LIMIT * 1.05),  # it works: make it smaller
        (LIMIT, 0.3, True, LIMIT * 0.97),  # promising: let it grow
        (LIMIT / 20, 0.94, True, LIMIT / 20),  # but not for nothing
        (LIMIT, 0.29, True, LIMIT),
        (LIMIT * 3, 0.29, True, LIMIT * 3 / 1.1),  # down to the limit
        (LIMIT * 1.05, 0.0, True, LIMIT),
        (LIMIT / 2, 0.0, True, LIMIT / 2 * 1.05),  # up to the limit
        (LIMIT / 1.01, 0.0, True, LIMIT),
        (LIMIT, 1.0, False, LIMIT * 1.05),  # it works, but is too large: make it smaller
        (LIMIT * 2, 0.95, False, LIMIT * 2 * 1.05),
        (LIMIT * 2, 0.94, False, LIMIT * 2 * 1.05),
        (LIMIT * 2, 0.3, False, LIMIT * 2 * 1.05),
        (LIMIT / 2, 0.7, False, LIMIT / 2 * 1.05),
        (LIMIT * 2, 0.29, False, LIMIT * 2 / 1.1),  # it works on too few: down to the limit
        (LIMIT, 0.29, False, LIMIT),
        (LIMIT / 2, 0.0, False, LIMIT / 2 * 1.05),
    ],
)
def test_how_the_weight_is_steered(beta: float, works: float, small: bool, expected: float) -> None:
    assert Search()._steer(beta, LIMIT, works, small) == pytest.approx(expected)


def test_the_weight_is_under_the_limit_only_for_a_small_mask_that_is_promising() -> None:
    for works in (0.0, 0.29, 0.3, 0.5, 0.7, 0.94, 0.95, 1.0):
        for small in (True, False):
            beta = Search()._steer(LIMIT, LIMIT, works, small)
            assert (beta < LIMIT) == (small and 0.3 <= works < 0.95)


def test_how_far_a_loss_fell_by_hand() -> None:
    assert _fall([9, 4, 6, 1, 3], 2) == pytest.approx(5 - 2)
    assert _fall([1, 1, 1], 2) == math.inf


def test_the_seed_alone_decides() -> None:
    results = [found(Search(steps=20), wants(), seed) for seed in (1, 1, 2)]
    assert torch.equal(results[0].trigger.mask, results[1].trigger.mask)
    assert torch.equal(results[0].trigger.pattern, results[1].trigger.pattern)
    assert results[0].loss_curve == results[1].loss_curve
    assert not torch.equal(results[0].trigger.mask, results[2].trigger.mask)


def test_progress_is_told_and_ends_at_its_total() -> None:
    told: list[tuple[str, int, int]] = []
    result = found(Search(starts=1), progress=lambda *step: told.append(step))
    steps = [("trigger inversion", step, 300) for step in range(1, len(result.loss_curve) + 1)]
    assert told == [*steps, ("trigger inversion", 300, 300)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("beta", [None, 0.01])
def test_a_loss_that_is_no_number_is_refused(value: float, beta: float | None) -> None:
    with pytest.raises(ModelError, match="NaN or infinite"):
        found(Search(beta=beta), lambda stamped: (value * stamped.mean(), 0.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"beta": -0.1},
        {"beta": float("nan")},
        {"beta": float("inf")},
        {"steps": 0},
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"max_mask_share": 0.0},
        {"max_mask_share": 1.1},
        {"max_mask_share": float("nan")},
        {"success": 0.0},
        {"success": 1.01},
        {"warm_up": -1},
        {"patience": 0},
        {"starts": 0},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(Search(), **changes)


def test_without_a_warm_up_the_weight_is_at_its_limit_at_once() -> None:
    result = found(Search(warm_up=0, steps=1, starts=1))
    assert result.loss_curve[0] == pytest.approx(LIMIT * float(result.trigger.mask.sum()), rel=1e-4)
