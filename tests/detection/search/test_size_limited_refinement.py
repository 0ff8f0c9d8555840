"""Refining, after the three restarts of SIXTEENTH: the fourth patch judged is its first."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmend.detection import SizeLimitedSearch
from toy_objectives import BLACK_AND_WHITE, SIXTEENTH, SMALLER, Indifferent, about, found, says, sizes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("answers", "limits", "size"),
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
def test_until_a_patch_works_the_limit_doubles_or_goes_to_the_largest(
    answers: dict[int, float], limits: list[int], size: int
) -> None:
    """Before the first step, too; it doubles where 0.3 is reached.

    With the largest refinement goes on while success is 0.3 and more than before. The best after some refinement is the
    result, the first of several.
    """
    spy = says(answers)
    result = found(SIXTEENTH, spy, BLACK_AND_WHITE)
    assert sizes(spy.refined) == about(*[limit for limit in limits for _ in range(10)])
    assert sizes(spy.judged[3:]) == about(1, *limits)
    assert set(spy.at_least) == {0.3}
    assert result.trigger.size == pytest.approx(size, rel=1e-4)
    assert result.stop_reason == "no patch within 6.2% of the image worked"


def test_a_patch_that_works_is_refined_within_four_fifths_of_what_is_left() -> None:
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


def test_a_mask_far_below_its_limit_is_made_smaller_at_once() -> None:
    """The limit is 64 pixels and then 16, the random mask's sum about 7."""
    spy = says({2: 1.0})
    found(replace(SIXTEENTH, restarts=1, max_mask_fraction=1.0), spy, BLACK_AND_WHITE)
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


def test_it_stops_when_the_steps_are_used_up() -> None:
    """Before the largest mask, which is tried from the first step on or the tenth, had a whole stride."""
    for steps, works in ((7, 0.0), (15, 0.3)):
        used = found(
            SizeLimitedSearch(explore=5, steps=steps, stride=10), says(dict.fromkeys(range(99), works))
        )
        assert (used.stop_reason, used.converged) == (f"all {steps} steps were used", True)
        assert len(used.loss_curve) == 5 + steps


@pytest.mark.parametrize(("slope", "converged"), [(0.06, False), (0.04, True)])
def test_a_loss_that_still_falls_has_not_converged(slope: float, converged: bool) -> None:
    """Eight losses: the last two are, on average, two steps' fall lower than the two before; 0.1 is little."""
    calls = iter(range(99))

    class Falling(Indifferent):
        def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
            return 0 * super().loss(stamped, chosen) - slope * next(calls)

        coarse = loss

    search = SizeLimitedSearch(restarts=1, explore=2, steps=6, stride=10)
    assert found(search, Falling()).converged == converged
    # What works is a result, and to give up is one, however the loss goes on.
    assert found(search, Falling(lambda patch: 1.0)).converged
    assert found(replace(search, steps=60), Falling()).converged
