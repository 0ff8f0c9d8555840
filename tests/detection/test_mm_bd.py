"""MM-BD's verdict from margins, and what it needs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, Finding, MaximumMargin, measured, scan
from fedmend.errors import ConfigError, ModelError

QUICK = MaximumMargin(restarts=3, steps=40)


class Peaks(nn.Module):
    """Logits of which each has its largest margin as given: each is one pixel, times its number, less all others."""

    def __init__(self, *peaks: float) -> None:
        super().__init__()
        self.peaks = nn.Parameter(torch.tensor(peaks))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) * self.peaks


def found(*peaks: float, detector: MaximumMargin = QUICK) -> Finding:
    images = torch.rand(12, 1, 1, len(peaks), generator=torch.Generator().manual_seed(0))
    return detector(Case(Peaks(*peaks).eval(), images=images), torch.Generator().manual_seed(0))


def test_an_unusually_large_margin_is_a_backdoor() -> None:
    finding = found(4.0, 5.0, 50.0, 4.5, 5.2, 4.8, 5.1, 4.7)
    assert (finding.verdict, finding.targets[0].target) == ("backdoored", 2)
    assert finding.suspicious > finding.limit
    largest = measured(finding, "largest_margin")
    assert largest is not None
    assert largest.value == pytest.approx(50, rel=0.1)  # in few steps


def test_margins_alike_are_clean() -> None:
    finding = found(4.0, 5.0, 5.3, 4.5, 5.2, 4.8, 5.1, 4.7)
    assert (finding.verdict, finding.targets) == ("clean", ())
    assert finding.suspicious < finding.limit


def test_the_logits_scale_does_not_matter() -> None:
    peaks = (4.0, 5.0, 9.0, 4.5, 5.2, 4.8)
    small, large = found(*peaks), found(*(1000 * peak for peak in peaks))
    assert large.suspicious == pytest.approx(small.suspicious, abs=0.01)


def test_the_paper_s_p_value_is_there_on_request() -> None:
    peaks = (4.0, 5.0, 6.5, 4.5, 5.2, 4.8)
    paper = MaximumMargin(restarts=3, steps=40, calibrated=False)
    assert found(*peaks, detector=paper).suspicious > found(*peaks).suspicious


@pytest.mark.parametrize(
    ("peaks", "told"),
    [((1.0, 2.0, 3.0), "With 3 classes there are too few"), ((1.0, 1.0, 1.0, 1.0, 5.0), "are all the same")],
)
def test_what_cannot_be_compared_is_inconclusive(peaks: tuple[float, ...], told: str) -> None:
    finding = found(*peaks)
    assert finding.verdict == "inconclusive"
    assert told in finding.reason


def test_no_images_are_needed_but_their_shape(world: planted.World) -> None:
    case = Case(world.backdoored, class_names=planted.NAMES)
    with pytest.raises(ConfigError, match=r"image_shape=\(C, H, W\)"):
        scan(case, QUICK)
    report = scan(case, MaximumMargin(restarts=3, steps=40, image_shape=(1, 12, 12)), seed=0)
    assert report.num_images == 0
    assert "margin of" in report.reason


def test_a_large_model_gets_fewer_restarts_and_steps() -> None:
    detector = MaximumMargin(work=3e6)
    small, large, huge = (detector._affordable(cost) for cost in (100, 1000, 10**6))
    assert (small.restarts, small.steps) == (30, 300)
    assert (large.restarts, large.steps) == (10, 100)  # 3e6 / 3 / 1000 passes, in place of 9000
    assert (huge.restarts, huge.steps) == (3, 30)


def test_a_model_that_fails_on_noise_is_refused() -> None:
    net = Peaks(1.0, float("inf"), 2.0, 3.0)
    images = torch.zeros(12, 1, 1, 4)
    with pytest.raises(ModelError, match="NaN or infinite logits on random images"):
        QUICK(Case(net.eval(), images=images), torch.Generator())
