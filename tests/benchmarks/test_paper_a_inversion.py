from typing import Any

import pytest
import torch
from benchmarks.paper_a.captured_training import CapturedTraining
from benchmarks.paper_a.inversion import Inverted, Reading, invert, measured, ssim
from benchmarks.paper_a.mean_reading import MeanReading
from torch import nn

from fedmend import Case
from fedmend.errors import DivergedError
from fedmend.local_training import LocalTraining


class Sensitive(nn.Module):
    """Two classes by the mean pixel; the suspect adds a large value for a bright first pixel."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(121, 4), nn.ReLU())
        self.last = nn.Linear(4, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            first = self.hidden[1].weight
            assert isinstance(first, torch.Tensor)
            first[0] = 1 / 121
            first[1, 0] = weight
            self.last.weight[0, 0] = 1
            self.last.weight[1, 1] = 1
            self.last.bias[0] = 0.5
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.hidden(images))
        return logits


@pytest.mark.parametrize("features", ["hidden", "logits"])
@pytest.mark.parametrize("values", ["clamped", "sigmoid"])
def test_a_reading_finds_a_planted_pixel(features: Any, values: Any) -> None:
    suspect, reference = Sensitive(9.0).eval(), Sensitive(0.0).eval()
    images = torch.full((4, 1, 11, 11), 0.4)
    images[:, :, 0, 0] = 0
    reading = Reading(features=features, values=values, lr=0.05, steps=60)
    found = invert(suspect, reference, images, reading, seed=1)
    told = measured(suspect, found, images, torch.zeros(4, dtype=torch.int64), reading)
    assert found.mask[0, 0, 0] * found.pattern[0, 0, 0] > 0.5
    assert found.mask.flatten()[1:].mean() < 0.3
    assert told["mse"] > 1
    again = invert(suspect, reference, images, reading, seed=1)
    assert torch.equal(found.mask, again.mask)


def test_without_a_backdoor_the_mask_goes() -> None:
    clean = Sensitive(0.0).eval()
    images = torch.full((4, 1, 11, 11), 0.4)
    found = invert(clean, clean, images, Reading(lr=0.05, steps=200), seed=1)
    assert found.mask.sum() == 0
    assert found.gone is not None
    assert found.gone < 60


@pytest.mark.parametrize(("weight", "verdict"), [(90.0, "backdoored"), (0.01, "clean")])
def test_the_mean_reading_is_a_detector(weight: float, verdict: str) -> None:
    images = torch.full((6, 1, 11, 11), 0.4)
    images[:, :, 0, 0] = 0
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    case = Case(Sensitive(weight).eval(), Sensitive(0.0).eval(), images, labels)
    finding = MeanReading(alpha=0.5, beta=0.01)(case, torch.Generator().manual_seed(1))
    assert finding.verdict == verdict
    assert finding.targets[0].trigger is not None
    if verdict == "backdoored":
        assert finding.targets[0].target == 1


def test_measures_by_hand() -> None:
    suspect = Sensitive(9.0).eval()
    mask, pattern = torch.zeros(1, 11, 11), torch.zeros(1, 11, 11)
    mask[0, 0, 0] = pattern[0, 0, 0] = 1
    images = torch.zeros(4, 1, 11, 11)
    labels = torch.tensor([0, 0, 0, 1])
    told = measured(suspect, Inverted(mask, pattern, None), images, labels, Reading(features="hidden"))
    assert told["found"] == 1
    assert told["reasr"] == 1.0
    assert told["mse"] == pytest.approx(81 + 1 / 121**2, abs=1e-3)


def test_ssim_is_one_of_equal_images_and_agrees_with_another_s() -> None:
    from skimage.metrics import structural_similarity

    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 16, 16, generator=rng)
    assert float(ssim(images, images)) == pytest.approx(1)
    other = (images + 0.2 * torch.rand(2, 1, 16, 16, generator=rng)).clamp(0, 1)
    theirs = [
        structural_similarity(
            first[0].numpy(),
            second[0].numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for first, second in zip(images, other, strict=True)
    ]
    assert float(ssim(images, other)) == pytest.approx(sum(theirs) / 2, abs=0.01)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def test_captured_training_learns_and_starts_afresh_for_each_client() -> None:
    images = torch.zeros(32, 1, 8, 8, dtype=torch.uint8)
    images[16:] = 255
    labels = torch.arange(32) // 16
    settings = LocalTraining(epochs=3, batch_size=8, lr=0.01)
    start, training = small_net(), CapturedTraining(small_net(), 40, settings)
    first, second = small_net(), small_net()
    training(first, images, labels, seed=1)
    training(second, images, labels, seed=1)
    pairs = list(zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)
    before = list(zip(first.parameters(), start.parameters(), strict=True))
    assert not any(torch.equal(one, other) for one, other in before)
    assert torch.equal(first.eval()(images.float() / 255).argmax(1), labels)
    with pytest.raises(DivergedError):
        CapturedTraining(small_net(), 40, LocalTraining(batch_size=8, lr=1e30))(
            small_net(), images, labels, seed=1
        )
