"""Attack methods on a linear model, where one step of SGD can be worked out by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

import planted
from fedmend.attacks import (
    Alternating,
    AttackData,
    AttackMethod,
    ConstrainAndScale,
    Neurotoxin,
    Slow,
    Stealthy,
)
from fedmend.attacks.methods import length, parameter_vector, scale_change
from fedmend.attacks.neurotoxin import small_gradients
from fedmend.attacks.slow import turned
from fedmend.attacks.stealthy import honest_parameters
from fedmend.errors import DataError
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten

Net = Callable[[], nn.Sequential]
AREA = planted.SIDE**2
STEP = LocalTraining(epochs=1, batch_size=1000, optimizer="sgd", lr=0.1, momentum=0.0)
METHODS = [ConstrainAndScale(), Stealthy(), Alternating(), Neurotoxin(), Slow()]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)


def linear() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(AREA, 4))


def data(clean: int = 16, poisoned: int = 8) -> AttackData:
    images, labels = planted.draw(clean, 0)
    copies, _ = planted.draw(poisoned, 1)
    copies[:, :, :2, :3] = 255
    return AttackData(images, labels, copies, torch.ones(poisoned, dtype=torch.int64), truth=labels)


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    loss = cross_entropy(model(images / 255), labels)
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(model.parameters()))])


def moved(method: AttackMethod, training: LocalTraining = STEP) -> Tensor:
    model = linear()
    before = parameter_vector(model).detach().clone()
    method(model, data(), training, 3)
    return parameter_vector(model).detach() - before


def test_constrain_and_scale_weighs_loss_and_distance() -> None:
    torch.testing.assert_close(moved(ConstrainAndScale(0.4)), -0.1 * 0.4 * gradient(linear(), *data().mixed))
    # In a second step the norm's gradient is the unit vector of the first.
    two = replace(STEP, epochs=2)
    first = moved(ConstrainAndScale(0.4))
    at_first = linear()
    start = parameter_vector(at_first).detach()
    nn.utils.vector_to_parameters(start + first, at_first.parameters())
    expected = first - 0.1 * (0.4 * gradient(at_first, *data().mixed) + 0.6 * first / first.norm())
    torch.testing.assert_close(moved(ConstrainAndScale(0.4), two), expected, atol=1e-5, rtol=1e-4)


def test_constrained_by_cosine_it_turns_less() -> None:
    many, start = replace(STEP, epochs=30), parameter_vector(linear()).detach()
    free, held = (start + moved(ConstrainAndScale(alpha, "cosine"), many) for alpha in (1.0, 0.2))
    cosines = [float(torch.cosine_similarity(each, start, dim=0)) for each in (free, held)]
    assert cosines[0] < cosines[1] <= 1


def test_stealthy_adds_a_boosted_loss_and_the_pull_of_an_honest_update() -> None:
    """The honest model is one step off, so the distance's gradient is the unit vector away from it."""
    given, model = data(), linear()
    honest = -0.1 * gradient(model, given.images, given.labels)
    pull = -honest / honest.norm()
    expected = gradient(model, given.images, given.labels) + 3 * gradient(model, given.poisoned, given.wanted)
    torch.testing.assert_close(moved(Stealthy(boost=3.0, distance=0.5)), -0.1 * (expected + 0.5 * pull))


def test_alternating_boosts_the_malicious_step_only() -> None:
    given, model = data(), linear()
    malicious = -0.1 * gradient(model, given.poisoned, given.wanted)
    start = parameter_vector(model).detach().clone()
    nn.utils.vector_to_parameters(start + 5 * malicious, model.parameters())
    honest = start - 0.1 * gradient(linear(), given.images, given.labels)
    away = start + 5 * malicious - honest
    stealth = -0.1 * (gradient(model, given.images, given.labels) + 0.5 * away / away.norm())
    torch.testing.assert_close(
        moved(Alternating(boost=5.0, distance=0.5)), 5 * malicious + stealth, atol=1e-5, rtol=1e-4
    )


def test_neurotoxin_leaves_the_largest_honest_gradients_alone() -> None:
    given = data()
    honest = gradient(linear(), given.images, given.labels).abs()
    count = round(0.25 * len(honest))
    held = torch.zeros(len(honest), dtype=torch.bool)
    held[honest.topk(count).indices] = True
    free = torch.cat([each.flatten() for each in small_gradients(linear(), given, 0.25)])
    assert torch.equal(~free, held)
    change = moved(Neurotoxin(0.25), LocalTraining(epochs=3, batch_size=8, weight_decay=0.1))
    assert not bool(change[held].any())
    assert bool(change[~held].any())
    plain = -0.1 * gradient(linear(), *given.mixed)
    torch.testing.assert_close(moved(Neurotoxin(0.25)), plain.where(free, 0))
    torch.testing.assert_close(moved(Neurotoxin(0.0)), plain)


def test_a_slow_update_is_as_long_as_an_honest_one_and_at_the_angle() -> None:
    honest, malicious = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([-1.0, 7.0, 0.0])
    assert turned(honest, malicious, 0.8).tolist() == pytest.approx([1.6, 1.2, 0])
    assert turned(honest, honest * 5, 0.8).tolist() == pytest.approx([2, 0, 0])
    assert turned(honest, -honest, 0.8).tolist() == pytest.approx([2, 0, 0])
    within = torch.tensor([0.9, 0.1, 0.0])
    assert turned(honest, within, 0.8).tolist() == pytest.approx(within.tolist())
    assert turned(honest * 0, malicious, 0.8).tolist() == [0, 0, 0]


def test_a_slow_attack_projects_after_each_poisoned_epoch() -> None:
    given, model = data(), linear()
    start = parameter_vector(model).detach().clone()
    honest = -0.1 * gradient(model, given.images, given.labels)
    sent = honest
    for epochs in (1, 2):
        nn.utils.vector_to_parameters(start + sent, model.parameters())
        sent = turned(honest, sent - 0.1 * gradient(model, *given.mixed), 0.999)
        torch.testing.assert_close(moved(Slow(0.999, epochs)), sent, atol=1e-5, rtol=1e-4)
    assert float(torch.cosine_similarity(sent, honest, dim=0)) == pytest.approx(0.999, abs=1e-5)
    assert float(sent.norm()) == pytest.approx(float(honest.norm()), rel=1e-4)


def test_what_is_honest_follows_true_classes_even_if_the_attacker_trains_on_predictions() -> None:
    """The gradient of a model's loss on its own predictions is 0: nothing could be told from it."""
    given, model = data(), linear()
    predictions = model(given.images / 255).softmax(1).detach()
    wanted = one_hot(given.wanted, 4).float()
    soft = replace(given, labels=predictions, wanted=wanted)
    free = [small_gradients(model, each, 0.25) for each in (given, soft)]
    assert all(torch.equal(*pair) for pair in zip(*free, strict=True))
    start, honest = parameter_vector(model).detach(), gradient(model, given.images, given.labels)
    torch.testing.assert_close(honest_parameters(model, soft, STEP, 0), start - 0.1 * honest)
    before = start.clone()
    Slow(0.9)(model, soft, STEP, 3)
    sent = parameter_vector(model).detach() - before
    assert float(torch.cosine_similarity(sent, -honest, dim=0)) >= 0.9 - 1e-4
    assert float(sent.norm()) == pytest.approx(0.1 * float(honest.norm()), rel=1e-4)


@every_method
def test_a_method_depends_on_the_seed_alone(method: AttackMethod, net: Net) -> None:
    training = LocalTraining(epochs=1, batch_size=8)
    results = []
    for seed in (3, 3, 4):
        model, state = net(), torch.get_rng_state()
        method(model, data(), training, seed)
        results.append(flatten(model.state_dict()))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@every_method
def test_without_poisoned_images_it_still_trains(method: AttackMethod, net: Net) -> None:
    model = net()
    before = flatten(model.state_dict())
    method(model, data(poisoned=0), LocalTraining(epochs=1, batch_size=8), 3)
    assert not torch.equal(flatten(model.state_dict()), before)


def test_without_clean_images_nothing_can_be_imitated() -> None:
    with pytest.raises(DataError, match="needs clean images; got none"):
        Stealthy()(linear(), data(clean=0), STEP, 0)


def test_pieces() -> None:
    assert float(length(torch.tensor([3.0, 4.0]))) == pytest.approx(5)
    zero = torch.zeros(2, requires_grad=True)
    (slope,) = torch.autograd.grad(length(zero), zero)
    assert slope.tolist() == [0, 0]
    model = nn.BatchNorm1d(1)
    before = flatten(model.state_dict())
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    scale_change(model, before, 3.0)
    assert [float(value) for value in model.state_dict().values()][:4] == [4, 3, 1, 2]
    assert math.isclose(float(model.num_batches_tracked), 1)
