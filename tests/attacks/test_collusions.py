from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from fedmend.attacks import ALittleIsEnough, CollusionContext, FangKrum, FangTrimmedMean
from fedmend.attacks.a_little_is_enough import largest_shift
from fedmend.attacks.fang_krum import krum_selects

KNOWN = torch.tensor([[1.0, -1.0], [3.0, -1.0], [2.0, -4.0], [2.0, -2.0]])
OWN = torch.tensor([[9.0, 9.0], [-9.0, 0.0]])


def context(known: Tensor = KNOWN, before: Tensor | None = None, seed: int = 0) -> CollusionContext:
    start = torch.zeros(known.shape[1]) if before is None else before
    return CollusionContext(known, len(known) + 2, torch.ones(known.shape[1], dtype=torch.bool), start, seed)


def test_the_largest_shift_by_hand() -> None:
    # The paper's example: of 50 clients 24 attack; two must be won; 24 of 26 lie below.
    assert largest_shift(50, 24) == pytest.approx(NormalDist().inv_cdf(24 / 26))
    assert largest_shift(10, 3) == pytest.approx(NormalDist().inv_cdf(4 / 7))
    assert largest_shift(10, 1) == pytest.approx(0, abs=1e-5)  # five must be won: below one half
    assert largest_shift(4, 4) == pytest.approx(NormalDist().inv_cdf(0.999))


def test_a_little_is_enough_by_hand() -> None:
    deviations = torch.tensor([0.5**0.5, 1.5**0.5])
    sent = ALittleIsEnough(z=2.0)(OWN, context())
    torch.testing.assert_close(sent, (torch.tensor([2.0, -2.0]) - 2 * deviations).expand(2, 2))
    hidden = ALittleIsEnough(z=2.0, backdoor=True)(OWN, context())
    torch.testing.assert_close(hidden[0], torch.tensor([2.0, -2.0]) + 2 * deviations)
    torch.testing.assert_close(hidden[1], torch.tensor([2 - 2 * 0.5**0.5, 0.0]))
    assert (ALittleIsEnough().untargeted, ALittleIsEnough(backdoor=True).untargeted) == (True, False)


def test_krum_selects_what_lies_among_the_others() -> None:
    # With two attackers of six, two others count; the copies have each other, at distance 0.
    assert krum_selects(torch.tensor([2.0, -1.5]), KNOWN, 2)
    assert not krum_selects(torch.tensor([50.0, 50.0]), KNOWN, 2)


def test_fang_on_krum_takes_the_largest_step_that_is_selected() -> None:
    known = torch.randn(8, 20, generator=torch.Generator().manual_seed(0)) + 0.3
    sent = FangKrum()(torch.zeros(3, 20), context(known))
    assert torch.equal(sent[0], sent[1])
    signs = -known.mean(0).sign()
    step = float(sent[0].abs().max())
    torch.testing.assert_close(sent[0], step * signs)
    assert krum_selects(sent[0].double(), known.double(), 3)
    assert not krum_selects(2 * sent[0].double(), known.double(), 3)


def test_fang_on_the_trimmed_mean_by_hand() -> None:
    # Models are 1 above the updates: (2, 4) rising, so below 2 down to 2 / 2; then (-3, 0) falling: from 0 up to 0 / 2.
    sent = FangTrimmedMean()(OWN, context(before=torch.tensor([1.0, 1.0]))) + 1
    assert bool(((sent[:, 0] <= 2) & (sent[:, 0] >= 1)).all())
    assert sent[:, 1].tolist() == [0, 0]
    # Where the edge is on the other side of 0, it is multiplied: -4 and below for a rising one, 3 and above otherwise.
    sent = FangTrimmedMean(reach=3.0)(OWN, context(before=torch.tensor([-5.0, 4.0])))
    low, high = sent[:, 0] - 5, sent[:, 1] + 4
    assert bool(((low <= -4) & (low >= -12)).all())
    assert bool(((high >= 3) & (high <= 9)).all())


def test_with_partial_knowledge_it_draws_from_three_to_four_deviations() -> None:
    sent = FangTrimmedMean(omniscient=False)(OWN, context())
    mean, deviation = torch.tensor([2.0, -2.0]), torch.tensor([0.5**0.5, 1.5**0.5])
    distances = (sent - mean) / deviation * torch.tensor([-1.0, 1.0])
    assert bool(((distances >= 3) & (distances <= 4)).all())
    assert torch.equal(FangTrimmedMean()(OWN, context()), FangTrimmedMean()(OWN, context()))
    assert not torch.equal(FangTrimmedMean()(OWN, context()), FangTrimmedMean()(OWN, context(seed=1)))
