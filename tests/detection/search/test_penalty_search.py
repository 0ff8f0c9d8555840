import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmend.detection.search.penalty_search import PenaltySearch, fall, has_settled
from fedmend.errors import ConfigError, ModelError
from fedmend.seeds import generator

IMAGES = torch.full((3, 1, 8, 8), 0.5)


def whiten(stamped: Tensor, chosen: Tensor) -> Tensor:
    """Falls as the corner's four pixels turn white."""
    return 4 * (stamped[:, :, 0, :2, :2] - 1).abs().mean((1, 2, 3))


def test_the_papers_search_by_hand() -> None:
    """One start, all steps on all images, the L1 term in the loss, and the last mask and pattern."""
    images = torch.rand(10, 1, 8, 8, generator=generator(1))
    start = generator(5)
    parts = [torch.randn(1, 1, 8, 8, generator=start).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.Adam(parts, 0.3, betas=(0.5, 0.9))
    curve = []
    for _ in range(100):
        mask, pattern = (part.sigmoid() for part in parts)
        stamped = mask * pattern + (1 - mask) * images
        loss = whiten(stamped[None], torch.arange(10)).sum() + 0.02 * mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    result = PenaltySearch(beta=0.02, steps=100, lr=0.3)(whiten, images, generator(5))
    assert result.loss_curve == pytest.approx(curve, rel=1e-4)
    assert torch.allclose(result.trigger.mask, mask[0], atol=1e-4)
    assert torch.allclose(result.trigger.pattern, pattern[0], atol=1e-4)
    assert result.stop_reason == "all 100 steps were used"


@pytest.mark.parametrize(("slope", "converged"), [(0.06, False), (0.04, True)])
def test_a_loss_that_still_falls_has_not_converged(slope: float, converged: bool) -> None:
    """The last two of eight losses are, on average, two steps' fall lower than the two before."""
    calls = iter(range(99))

    def falling(stamped: Tensor, chosen: Tensor) -> Tensor:
        return 0 * stamped.sum((1, 2, 3, 4)) - slope * next(calls)

    assert PenaltySearch(beta=0.0, steps=8)(falling, IMAGES, generator(0)).converged == converged


def test_the_seed_alone_decides() -> None:
    search = PenaltySearch(beta=0.01, steps=50)
    first, again, other = (search(whiten, IMAGES, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.trigger.mask, again.trigger.mask)
    assert first.loss_curve == again.loss_curve
    assert not torch.equal(first.trigger.mask, other.trigger.mask)


def test_progress_is_reported() -> None:
    told: list[tuple[str, int, int]] = []
    PenaltySearch(beta=0.01, steps=3)(whiten, IMAGES, generator(0), lambda *step: told.append(step))
    assert told == [("trigger inversion", step, 3) for step in (1, 2, 3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(value: float) -> None:
    calls = iter(range(99))

    def broken(stamped: Tensor, chosen: Tensor) -> Tensor:
        return whiten(stamped, chosen) + (value if next(calls) == 4 else 0.0)

    with pytest.raises(ModelError, match="NaN or infinite"):
        PenaltySearch(beta=0.01, steps=9)(broken, IMAGES, generator(0))
    assert next(calls) == 5


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("beta", [-0.1, float("nan"), float("inf")]),
        ("lr", [0.0, -1.0, float("nan"), float("inf")]),
        ("steps", [0, -1]),
    ],
)
def test_settings_out_of_range_are_refused(name: str, values: list[float]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=name):
            replace(PenaltySearch(beta=0.1), **{name: value})


def test_how_far_a_loss_fell_by_hand() -> None:
    assert fall([99, 99, 9, 9, 5, 7, 1, 3]) == pytest.approx(6 - 2)
    assert fall([9, 4, 6, 1, 3]) == pytest.approx(1 - 3)
    assert fall([1, 1, 1]) == math.inf


def test_a_tenth_is_little() -> None:
    assert has_settled([0, 0, 0, 0, 0.1, 0.1, 0, 0])
    assert not has_settled([0, 0, 0, 0, 0.11, 0.11, 0, 0])
    assert not has_settled([0, 0, 0])
