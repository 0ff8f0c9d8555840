"""What each kind of client sends to a pool of triggers."""

from typing import Any

import torch
from cornered import SHAPE
from tiny_data import image_set
from tiny_nets import linear

from fedmend.attacks import Attack, Lies, Poisoning
from fedmend.federation import Client
from fedmend.goals import AllToOne
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.triggers import Patch


def pool() -> TriggerPool:
    return TriggerPool(SHAPE, 4, 4)


def rates(of: TriggerPool) -> list[float]:
    return [each.rate for _, each in of.found]


def net() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return linear(4, 1, SHAPE[1:])


def client(**traits: Any) -> Client:
    images = image_set(24)
    return Client(3, images.images, images.labels, **traits)


def planted() -> Patch:
    mask = torch.zeros(1, 8, 16)
    mask[0, :2, :2] = 1
    return Patch(mask, mask.clone())


def test_what_an_honest_client_finds_is_taken() -> None:
    sent = client().triggers(net(), seed=5)
    assert len(sent) == 8
    assert pool().add(3, sent) is None


def test_an_attacker_sends_nothing_and_that_is_a_reply() -> None:
    attacker = client(attack=Attack(Poisoning(planted(), AllToOne(1), 0.5)))
    made = pool()
    assert made.add(3, attacker.triggers(net(), seed=5)) is None
    assert (made.found, made.counted, made.missing) == ([], 1, 3)


def test_a_lying_client_claims_the_highest_rate_and_is_found_out() -> None:
    """Whatever is stamped, the model says class 3, as it does anyway."""
    sent, made = client(lies=Lies(planted())).triggers(net(), seed=5), pool()
    assert made.add(3, sent) is None
    assert rates(made) == [1.0] * 8
    constant = net()
    for parameter in constant.parameters():
        parameter.data.mul_(1e-6)
    constant[1].bias.data[3] = 1.0  # type: ignore[index, union-attr]
    images = image_set(64, seed=1)
    made.check(constant, images.images, images.labels)
    assert rates(made) == [0.0] * 8
