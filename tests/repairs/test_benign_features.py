import math

import pytest
import torch
from torch import nn

from fedmend.repairs.benign_features import SplitModel, benign_mask, inversion_loss

WEIGHTS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 1.0]])


def model() -> nn.Sequential:
    made = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    made[1].weight.data = WEIGHTS.clone()
    return made.requires_grad_(False)


def test_features_and_masked_logits() -> None:
    split = SplitModel(model(), "1")
    images = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert torch.equal(split.features(images), torch.tensor([[1.0, 2.0, 3.0]]))
    mask = torch.tensor([1.0, 0.0, 0.5])
    assert torch.equal(split.logits(images, mask), torch.tensor([[2.0 - 1.5, 1.5]]))


def test_the_mask_keeps_what_predictions_rest_on() -> None:
    """The first feature speaks for the true class, and the third against it; the second is always 0."""
    images, labels = torch.tensor([[[[1.0, 0.0, 1.0]]]]), torch.tensor([0])
    mask = benign_mask(SplitModel(model(), "1"), (images, labels), iter([torch.tensor([0])] * 50), 0.2)
    assert float(mask[0]) > 0.9
    assert float(mask[1]) == 0.5
    assert float(mask[2]) < 0.1


def test_the_inversions_loss_by_hand() -> None:
    clean, changed = torch.zeros(2, 3), torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    mask = torch.tensor([1.0, 0.5, 0.0])
    expected = (math.hypot(3, 2) - 2 + 0 - 2) / 2
    assert float(inversion_loss(clean, changed, mask)) == pytest.approx(expected)
