from copy import deepcopy

import torch
from benchmarks.guard.loss_aware import LossAware, _Climbing
from tiny_attacker import data, net
from torch import nn

from fedmend.attacks import AttackData
from fedmend.evaluation import attack_success_rate
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.pixels import to_float


def searched(model: nn.Module, before: nn.Module, given: AttackData, steps: int = 60) -> float:
    """The loss of the best patch that a search of its own finds, with fresh random patches."""
    search = _Climbing(LossAware(patches=6, area=0.08), before, to_float(given.images[40:]), 0, seed=9)
    for _ in range(steps):
        search._descend(model, search.pixels[::8])
    return float(search._scan_loss(model, search.pixels, search._masks, search._patterns).detach().min())


def test_its_model_keeps_the_trigger_and_a_search_comes_less_far() -> None:
    given, trigger = data()
    training = LocalTraining(epochs=8, batch_size=16, lr=0.005)
    start = net()
    training(start, given.images, given.labels, 0)
    plain, aware = deepcopy(start), deepcopy(start)
    training(plain, *given.mixed, 1)
    LossAware(area=0.08)(aware, given, training, 1)
    found = {}
    for name, model in (("plain", plain), ("aware", aware)):
        asr = attack_success_rate(model.eval(), trigger, AllToOne(0), given.images, given.labels)
        assert asr > 0.9, name
        found[name] = searched(model, start.eval(), given)
    assert found["aware"] > found["plain"] + 0.5


def test_patches_descend_within_their_area_and_the_model_is_pushed_the_other_way() -> None:
    given, _ = data()
    model, before = net(), net()
    climbing = _Climbing(LossAware(area=0.1, limit=100.0), before, to_float(given.images[40:]), 0, seed=0)
    first = climbing._scan_loss(model, climbing.pixels, climbing._masks, climbing._patterns)
    for _ in range(20):
        climbing._descend(model, climbing.pixels)
    last = climbing._scan_loss(model, climbing.pixels, climbing._masks, climbing._patterns)
    assert bool((last < first).all())
    assert bool((climbing._masks.sum((1, 2, 3)) <= 6.4 + 1e-4).all())
    climbing.loss(model, torch.zeros(())).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 0.01 * parameter.grad
        patches = climbing._masks, climbing._patterns
        assert bool((climbing._scan_loss(model, climbing.pixels, *patches) > last).all())


def test_a_loss_above_the_limit_adds_nothing() -> None:
    given, _ = data()
    climbing = _Climbing(LossAware(limit=1e-6), net(), to_float(given.images[40:]), 0, seed=0)
    hard = nn.Sequential(net(), nn.Linear(4, 4))
    with torch.no_grad():
        hard[1].weight.zero_()
        hard[1].bias.copy_(torch.tensor([-9.0, 0, 0, 0]))
    assert climbing.loss(hard, torch.tensor(0.5)).item() == 0.5
