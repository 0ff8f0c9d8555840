import pytest
import torch
from torch import Tensor

from fedmend.detection.contrastive_loss import StampedLoss, contrast
from fedmend.detection.model_pair import ModelPair
from fedmend.detection.search.ssim import SsimTo
from fedmend.seeds import generator


def by_eq_1(reference_stamped: Tensor, suspect_clean: Tensor, suspect_stamped: Tensor) -> Tensor:
    """Eq. 1 as the paper writes it, with the cosine written out."""

    def sim(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1))

    positive = sim(reference_stamped, suspect_clean).exp()
    negative = sim(suspect_stamped, reference_stamped).exp()
    return -(positive / negative).log().mean(-1)


def test_the_loss_by_hand() -> None:
    """Of two patches on two images each."""
    # cos((1, 0), (1, 1)) = 0.7071 and cos((0, 2), (1, 0)) = 0; cos((3, 4), (4, 3)) = 0.96 and cos((3, 4), (5, 0)) = 0.6
    # cos((2, 2), (1, 1)) = 1 and cos((1, 0), (2, 2)) = 0.7071; cos((4, 3), (3, -4)) = 0 and cos((-4, -3), (4, 3)) = -1
    reference_stamped = torch.tensor([[[1.0, 0.0], [3.0, 4.0]], [[2.0, 2.0], [4.0, 3.0]]])
    suspect_clean = torch.tensor([[[1.0, 1.0], [4.0, 3.0]], [[1.0, 1.0], [3.0, -4.0]]])
    suspect_stamped = torch.tensor([[[0.0, 2.0], [5.0, 0.0]], [[1.0, 0.0], [-4.0, -3.0]]])
    expected = [((0 - 0.70710678) + (0.6 - 0.96)) / 2, ((0.70710678 - 1) + (-1 - 0)) / 2]
    measured = contrast(reference_stamped, suspect_clean, suspect_stamped)
    assert measured.tolist() == pytest.approx(expected)


def test_the_loss_is_the_papers_first_equation() -> None:
    for seed in range(5):
        features = torch.randn(12, 7, 10, generator=generator(seed), dtype=torch.float64)
        arguments = features[:4], features[4:8], features[8:]
        assert contrast(*arguments).shape == (4,)
        assert torch.allclose(contrast(*arguments), by_eq_1(*arguments))


def test_the_loss_at_its_ends() -> None:
    one = torch.tensor([[1.0, 2.0]])
    for clean, stamped, expected in ((one, -one, -2), (-one, one, 2), (one, one, 0)):
        assert contrast(one[None], clean[None], stamped[None]).tolist() == [pytest.approx(expected)]


def test_the_stamped_loss_is_eq_1_less_the_weighted_ssim() -> None:
    """Of two patches on two of four images; the reference sees another model's features."""
    images = torch.rand(4, 1, 12, 12, generator=generator(0))
    weights = torch.randn(2, 144, 5, generator=generator(1))
    suspect, reference = (lambda x, w=w: (x.flatten(1) @ w, x.flatten(1) @ w) for w in weights)
    pair = ModelPair(suspect, reference, images, suspect(images), reference(images))
    chosen = torch.tensor([[2, 0], [1, 3]])
    stamped = torch.rand(2, 2, 1, 12, 12, generator=generator(2))
    by_suspect, by_reference = (each(stamped.flatten(0, 1))[0].view(2, 2, 5) for each in (suspect, reference))
    expected = contrast(by_reference, suspect(images)[0][chosen], by_suspect)
    expected = expected - 0.7 * SsimTo(images)(stamped, chosen)
    assert torch.allclose(StampedLoss(pair, 0.7)(stamped, chosen), expected)
