import pytest
import torch
from torch import Tensor

from fedmend.detection.search.additions import Additions
from fedmend.errors import ModelError
from fedmend.seeds import generator

GREY = torch.full((2, 1, 1, 1, 2), 0.5)


def towards(goal: Tensor) -> object:
    """A loss with the gradient ``goal`` at each pixel."""
    return lambda images: (images * goal).sum((1, 2, 3, 4))


def test_the_first_steps_by_hand() -> None:
    """Of root mean square lr * limit against the normalised gradient; then with momentum, and back into the limit."""
    goal = torch.tensor([3.0, -4.0])
    unit = goal / (25 / 2) ** 0.5
    additions = Additions(torch.zeros(1, 1, 1, 2))
    additions.descend(GREY[:1], towards(goal), lr=0.5, limit=0.1)  # type: ignore[arg-type]
    (first,) = additions.triggers(1.0)
    assert torch.allclose(first.delta, -0.05 * unit)
    other = torch.tensor([-3.0, -4.0])
    additions.descend(GREY[:1], towards(other), lr=0.5, limit=0.1)  # type: ignore[arg-type]
    momentum = 0.7 * unit + other / (25 / 2) ** 0.5
    step = momentum / momentum.square().mean().sqrt()
    (second,) = additions.triggers(1.0)
    assert torch.allclose(second.delta, -0.05 * unit - 0.05 * step)
    for _ in range(5):
        additions.descend(GREY[:1], towards(goal), lr=0.5, limit=0.1)  # type: ignore[arg-type]
    (last,) = additions.triggers(1.0)
    assert last.strength == pytest.approx(0.1)


def test_each_has_its_own_loss_and_they_do_not_mix() -> None:
    additions = Additions(torch.zeros(2, 1, 1, 2))
    losses = additions.descend(
        GREY, lambda images: images.sum((1, 2, 3, 4)) * torch.tensor([1.0, -1.0]), 1.0, 0.1
    )
    assert torch.allclose(losses, torch.tensor([1.0, -1.0]))
    one, other = additions.triggers(0.1)
    assert torch.allclose(one.delta, torch.full((1, 1, 2), -0.1))
    assert torch.allclose(other.delta, torch.full((1, 1, 2), 0.1))


def test_triggers_keep_to_the_limit_and_only_some_are_kept() -> None:
    deltas = torch.stack([torch.full((1, 1, 2), 0.2), torch.full((1, 1, 2), 0.01)])
    additions = Additions(deltas)
    assert [each.strength for each in additions.triggers(0.1)] == pytest.approx([0.1, 0.01])
    kept = additions.only([1])
    assert len(kept) == 1
    kept.descend(GREY[:1], towards(torch.ones(2)), 1.0, 0.1)  # type: ignore[arg-type]
    assert torch.equal(additions.triggers(1.0)[1].delta, deltas[1])  # a copy
    assert kept.triggers(1.0)[0].delta.max() < 0


def test_pixels_at_black_and_white_have_no_gradient_beyond() -> None:
    """Images are clamped to [0, 1] as the trigger is applied."""
    seen = []
    additions = Additions(torch.full((1, 1, 1, 2), 0.3))

    def loss(images: Tensor) -> Tensor:
        seen.append(images)
        return images.sum((1, 2, 3, 4))

    additions.descend(torch.ones(1, 3, 1, 1, 2), loss, 0.5, 0.3)
    assert torch.equal(seen[0], torch.ones(1, 3, 1, 1, 2))


def test_random_ones_are_small_and_decided_by_the_seed() -> None:
    first, again, other = (
        Additions.random(2, torch.zeros(1, 3, 8, 8), generator(seed), 0.1).triggers(1.0) for seed in (0, 0, 1)
    )
    assert torch.equal(first[0].delta, again[0].delta)
    assert not torch.equal(first[0].delta, other[0].delta)
    assert first[1].strength == pytest.approx(0.01, rel=0.2)


def test_a_loss_that_is_nan_is_an_error() -> None:
    with pytest.raises(ModelError, match="NaN or infinite"):
        Additions(torch.zeros(1, 1, 1, 2)).descend(
            GREY[:1], lambda images: images.sum((1, 2, 3, 4)) * float("nan"), 0.5, 0.1
        )
