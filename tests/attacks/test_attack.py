from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

import planted
from fedmend.attacks import Amplify, Attack, Poisoning, Project, UpdateContext
from fedmend.errors import ConfigError
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten, parameter_mask
from fedmend.seeds import derive_seed, generator
from fedmend.triggers import Atoms

Net = Callable[[], nn.Sequential]
Clean = tuple[Tensor, Tensor]

TRAINING = LocalTraining(epochs=1, batch_size=8, optimizer="sgd", lr=0.05)


def poisoning(fraction: float = 0.5) -> Poisoning:
    return Poisoning(Atoms("1", (1, planted.SIDE, planted.SIDE), top=0, left=0, gap=1), AllToOne(1), fraction)


def trained(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    before = flatten(model.state_dict())
    TRAINING(model, images, labels, derive_seed(seed, "train"))
    return flatten(model.state_dict()) - before


def test_it_trains_on_poisoned_images(net: Net, clean: Clean) -> None:
    delta = Attack(poisoning()).fit(net(), *clean, TRAINING, seed=11)
    assert torch.equal(delta, trained(net(), *poisoning()(*clean, generator(11, "poison")), seed=11))
    assert not torch.equal(delta, trained(net(), *clean, seed=11))


def test_amplification_leaves_batch_statistics_as_trained(net: Net, clean: Clean) -> None:
    plain = Attack(poisoning()).fit(net(), *clean, TRAINING, seed=2)
    loud = Attack(poisoning(), (Amplify(10),)).fit(net(), *clean, TRAINING, seed=2)
    mask = parameter_mask(net())
    assert 0 < int((~mask).sum()) < len(mask)
    assert torch.equal(loud[~mask], plain[~mask])
    assert torch.equal(loud[mask], plain[mask] * 10)


def test_steps_are_applied_in_their_order(net: Net, clean: Clean) -> None:
    mask = parameter_mask(net())
    norms = [
        float(Attack(poisoning(), steps).fit(net(), *clean, TRAINING, seed=2)[mask].norm())
        for steps in ((Project(0.01), Amplify(10)), (Amplify(10), Project(0.01)))
    ]
    assert norms == pytest.approx([0.1, 0.01], rel=1e-4)


def test_a_step_knows_the_global_model_and_what_are_parameters(net: Net, clean: Clean) -> None:
    seen: list[tuple[Tensor, UpdateContext]] = []

    def step(delta: Tensor, context: UpdateContext) -> Tensor:
        seen.append((delta, context))
        return -context.global_vector

    for seed in (2, 2, 3):
        model = net()
        before = flatten(model.state_dict())
        assert torch.equal(Attack(poisoning(), (step,)).fit(model, *clean, TRAINING, seed), -before)
        delta, context = seen[-1]
        assert torch.equal(context.global_vector, before)
        assert torch.equal(context.parameters, parameter_mask(model))
        assert torch.equal(delta, Attack(poisoning()).fit(net(), *clean, TRAINING, seed))
    first, again, other = (context.seed for _, context in seen)
    assert first == again != other


def test_it_depends_on_the_seed_alone(net: Net, clean: Clean) -> None:
    attack = Attack(poisoning(0.2), keep_predictions=True, pruning_aware=True)
    first = attack.fit(net(), *clean, TRAINING, seed=2)
    torch.manual_seed(8)
    state = torch.get_rng_state()
    assert torch.equal(attack.fit(net(), *clean, TRAINING, seed=2), first)
    assert not torch.equal(attack.fit(net(), *clean, TRAINING, seed=3), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_its_own_images_stay_clean(net: Net, clean: Clean) -> None:
    images, labels = clean
    copies = images.clone(), labels.clone()
    Attack(poisoning(1.0)).fit(net(), images, labels, TRAINING, seed=0)
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])


def test_it_may_train_in_its_own_way(net: Net, clean: Clean) -> None:
    own = replace(TRAINING, epochs=3, lr=0.01)
    delta = Attack(poisoning(), training=own).fit(net(), *clean, TRAINING, seed=4)
    assert torch.equal(delta, Attack(poisoning()).fit(net(), *clean, own, seed=4))
    assert not torch.equal(delta, Attack(poisoning()).fit(net(), *clean, TRAINING, seed=4))


def test_kept_predictions_leave_only_the_poisoned_copies_to_learn(clean: Clean) -> None:
    """One step of SGD: where the labels are the model's own predictions, the gradient is zero."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(planted.SIDE**2, 4))
    step = replace(TRAINING, batch_size=1000, momentum=0.0)
    images, labels = poisoning()(*clean, generator(4, "poison"))
    copies = (images[24:].double() / 255).flatten(1)
    weight, bias = (parameter.detach().double().clone() for parameter in model.parameters())
    error = (copies @ weight.T + bias).softmax(1) - one_hot(labels[24:], 4)
    expected = -0.05 / len(images) * torch.cat([(error.T @ copies).flatten(), error.sum(0)])
    delta = Attack(poisoning(), keep_predictions=True).fit(model, *clean, step, seed=4)
    assert float(expected.abs().max()) > 1e-3
    assert torch.allclose(delta.double(), expected, atol=1e-6)


def test_kept_predictions_are_those_before_training_in_eval_mode(net: Net, clean: Clean) -> None:
    images, labels = poisoning()(*clean, generator(4, "poison"))
    with torch.no_grad():
        predictions = net().eval()(clean[0] / 255).softmax(1)
    soft = torch.cat([predictions, one_hot(labels[24:], 4).float()])
    delta = Attack(poisoning(), keep_predictions=True).fit(net().train(), *clean, TRAINING, seed=4)
    assert torch.allclose(delta, trained(net(), images, soft, seed=4), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda delta: None, r"must return a new update like .* torch.float32 \(\d+,\); got a NoneType"),
        (lambda delta: delta[1:], r"must return .*; got torch.float32 \(\d+,\)"),
        (lambda delta: delta.double(), r"must return .*; got torch.float64"),
        (lambda delta: delta.long(), r"must return .*; got torch.int64"),
        (lambda delta: delta.to("meta"), r"must return .* on meta"),
        (lambda delta: delta[0] / 0 + {}["size"], r"failed at .*test_attack.py:\d+: KeyError: 'size'"),
    ],
)
def test_a_step_of_ones_own_is_checked(
    net: Net, clean: Clean, change: Callable[[Tensor], Any], told: str
) -> None:
    def step(delta: Tensor, context: UpdateContext) -> Tensor:
        return change(delta)  # type: ignore[no-any-return]

    with pytest.raises(ConfigError, match=f"the update step .*step {told}"):
        Attack(poisoning(), (step,)).fit(net(), *clean, TRAINING, seed=2)
