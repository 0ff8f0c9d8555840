import pytest
import torch
from torch import Tensor, nn

from fedmend.repairs import AdversarialUnlearning, Context
from fedmend.repairs.i_bau import ascended, hypergradient

A, B, C, D, THETA, ETA = 2.0, 3.0, 0.5, 0.25, 0.8, 0.1


def outer(delta: Tensor, theta: Tensor) -> Tensor:
    return (0.5 * (delta - C).square() + 0.5 * D * theta.square()).sum()


def mapping(delta: Tensor, theta: Tensor) -> Tensor:
    """A step of gradient descent on a delta^2 / 2 - b theta delta, whose solution is b theta / a."""
    return delta - ETA * (A * delta - B * theta)


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (0, D * THETA),
        # v = delta - c after one iteration, (1 + (1 - eta a)) (delta - c) after two; the solution moves by eta b v.
        (1, D * THETA + ETA * B * (1.2 - C)),
        (2, D * THETA + ETA * B * 1.8 * (1.2 - C)),
        (300, D * THETA + B / A * (1.2 - C)),
    ],
    ids=["none", "one", "two", "many"],
)
def test_a_hypergradient_by_hand(iterations: int, expected: float) -> None:
    theta, solution = torch.tensor([THETA], requires_grad=True), torch.tensor([B * THETA / A])
    (gradient,) = hypergradient(
        lambda delta: outer(delta, theta), lambda delta: mapping(delta, theta), solution, [theta], iterations
    )
    assert float(gradient) == pytest.approx(expected, rel=1e-5)
    assert not solution.requires_grad


def test_a_parameter_without_influence_has_no_gradient() -> None:
    theta, other = (torch.tensor([THETA], requires_grad=True) for _ in range(2))
    _, gradient = hypergradient(
        lambda delta: outer(delta, theta),
        lambda delta: mapping(delta, theta),
        torch.ones(1),
        [theta, other],
        2,
    )
    assert float(gradient) == 0


def test_a_step_of_the_ascent_by_hand() -> None:
    """A step of length 1 along (0.6, 0.8), and back onto the circle."""
    gradient = torch.tensor([3.0, 4.0])
    assert torch.allclose(ascended(torch.zeros(2), gradient, 1.0, 2.0), torch.tensor([0.6, 0.8]))
    there = ascended(torch.tensor([1.2, 1.6]), gradient, 1.0, 2.0)
    assert torch.allclose(there, torch.tensor([1.2, 1.6]))
    assert not bool(ascended(torch.zeros(2), torch.zeros(2), 1.0, 2.0).any())


class Corner(nn.Module):
    """The middle pixel tells the class; a bright corner outvotes it as far as the weight says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([8.0]))

    def forward(self, images: Tensor) -> Tensor:
        middle, corner = images[:, 0, 1, 1], images[:, 0, 0, 0]
        score = 4 * (middle - 0.5) + self.weight * corner
        return torch.stack([score, -score], 1)


def test_the_perturbation_found_is_what_the_model_depends_on() -> None:
    images, labels = torch.zeros(8, 1, 3, 3), torch.tensor([1] * 8)
    method = AdversarialUnlearning(strength=0.2, batch_size=4)
    delta = method._worst(Corner(), (images, labels), torch.Generator().manual_seed(0))
    assert float(delta.norm()) == pytest.approx(0.2 * 3, rel=1e-4)
    assert int(delta.abs().argmax()) == 0
    assert float(delta[0, 0, 0]) > 0.5


def test_unlearning_weakens_it() -> None:
    images, labels = torch.zeros(8, 1, 3, 3), torch.tensor([1] * 8)
    method = AdversarialUnlearning(strength=0.2, batch_size=4, rounds=3, lr=0.5)
    candidate = method(Corner(), (), Context(images=images, labels=labels))
    assert isinstance(candidate.model, Corner)
    assert candidate.model.weight.item() < 7
    assert (candidate.details.steps, candidate.details.images) == (6, 8)  # type: ignore[union-attr]
