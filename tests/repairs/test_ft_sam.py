import math

import pytest
import torch
from torch import Tensor, nn

from fedmend.repairs import Context, SharpnessAwareTuning
from fedmend.repairs.ft_sam import neuron_norms, perturbation

WEIGHTS, BIAS = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([-2.0, 0.0])


def test_a_neurons_norm_is_that_of_its_row() -> None:
    assert neuron_norms(WEIGHTS).tolist() == [[5.0], [2.0]]
    assert neuron_norms(BIAS).tolist() == [2.0, 0.0]
    kernels = torch.full((2, 1, 2, 2), 0.5)
    assert neuron_norms(kernels).tolist() == [[[[1.0]]], [[[1.0]]]]


def test_a_perturbation_by_hand() -> None:
    """T g is ((3, 4), (0, 2)) and (-4, 0) for T = (5, 2) and (2, 0); its norm is sqrt(9 + 16 + 4 + 16)."""
    gradients = [torch.tensor([[0.6, 0.8], [0.0, 1.0]]), torch.tensor([-2.0, 7.0])]
    first, second = perturbation([WEIGHTS, BIAS], gradients, rho=0.1)
    norm = math.sqrt(45)
    assert torch.allclose(first, 0.1 * torch.tensor([[15.0, 20.0], [0.0, 4.0]]) / norm)
    assert torch.allclose(second, 0.1 * torch.tensor([-8.0, 0.0]) / norm)
    inverse = [first / neuron_norms(WEIGHTS), second[:1] / neuron_norms(BIAS)[:1]]
    assert float(torch.cat([each.flatten() for each in inverse]).norm()) == pytest.approx(0.1)


def test_without_a_gradient_nothing_is_perturbed() -> None:
    (step,) = perturbation([WEIGHTS], [torch.zeros(2, 2)], rho=1.0)
    assert not bool(step.any())


class Line(nn.Module):
    """Logits (w x, 0) of images of one pixel x."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[weight]]))

    def forward(self, images: Tensor) -> Tensor:
        scores = images.flatten(1) @ self.weight
        return torch.cat([scores, torch.zeros_like(scores)], 1)


def test_one_step_descends_from_the_old_weight_by_the_gradient_at_the_perturbed_one() -> None:
    """For x = 1 of class 0 the gradient of the loss is -1 / (1 + exp(w)), so w = 2 climbs to 1 at rho 1/2."""
    images, labels = torch.ones(1, 1, 1, 1), torch.tensor([0])
    method = SharpnessAwareTuning(rho=0.5, epochs=1, lr=0.1, momentum=0.0)
    model = method(Line(2.0), (), Context(images=images, labels=labels)).model
    assert isinstance(model, Line)
    assert model.weight.item() == pytest.approx(2 + 0.1 / (1 + math.exp(1)))


def test_epochs_cover_all_images() -> None:
    images, labels = torch.rand(10, 1, 1, 1), torch.tensor([0, 1] * 5)
    told: list[tuple[str, int, int]] = []
    context = Context(images=images, labels=labels, progress=lambda *step: told.append(step))
    details = SharpnessAwareTuning(epochs=3, batch_size=4)(Line(1.0), (), context).details
    assert [step[1:] for step in told] == [(done, 9) for done in range(1, 10)]
    assert (details.steps, details.images) == (9, 10)  # type: ignore[union-attr]
