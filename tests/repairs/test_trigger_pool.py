from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_nets import linear
from torch import nn

from fedmend.detection import FoundTrigger
from fedmend.errors import ConfigError
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.triggers import Addition, Patch

SHAPE = (1, 8, 16)


def found(
    *places: tuple[int, int],
    source: Any = 0,
    target: Any = 1,
    rate: Any = 0.5,
    shape: tuple[int, int, int] = SHAPE,
) -> FoundTrigger:
    """White pixels."""
    mask = torch.zeros(1, *shape[1:])
    for row, column in places or ((0, 0),):
        mask[0, row, column] = 1
    return FoundTrigger(Patch(mask, torch.ones(shape)), source, target, rate)


def soft(value: float) -> FoundTrigger:
    each = found()
    return replace(each, trigger=Patch(each.trigger.mask * value, each.trigger.pattern))


def tampered(value: float) -> FoundTrigger:
    each = found()
    each.trigger.pattern.fill_(value)
    return each


def faint(strength: float, shape: tuple[int, int, int] = SHAPE) -> FoundTrigger:
    """A pattern of this root mean square."""
    return replace(found(), trigger=Addition(torch.full(shape, strength)))


def impossible(value: float) -> FoundTrigger:
    each = faint(0.05)
    assert isinstance(each.trigger, Addition)
    each.trigger.delta[0, 0, 0] = value
    return each


def pool(clients: int = 4, **settings: int) -> TriggerPool:
    return TriggerPool(SHAPE, 4, clients, **settings)


def rates(of: TriggerPool) -> list[float]:
    return [each.rate for _, each in of.found]


def test_triggers_are_kept_in_the_order_in_which_they_came() -> None:
    made, first, second = pool(), [found(rate=0.2), found(rate=0.9)], (found(rate=1.0),)
    assert made.add(2, first) is None
    assert made.add(0, second) is None
    assert made.add(1, []) is None
    assert [client for client, _ in made.found] == [2, 2, 0]
    for (_, kept), sent in zip(made.found, [*first, *second], strict=True):
        assert (kept.source_class, kept.target_class, kept.rate) == (0, 1, sent.rate)
        assert torch.equal(kept.trigger.mask, sent.trigger.mask)
    first[0].trigger.mask.fill_(1)  # the client has no hold of what was taken in
    assert int(made.found[0][1].trigger.mask.sum()) == 1
    assert (made.counted, made.missing, dict(made.refused)) == (3, 1, {})


MANY = "too many triggers, or no list of them"
OTHER = "triggers for images of another shape"
LARGE = "triggers of no, too many or partial pixels"
NONE = "something other than triggers"
FAINT = "faint patterns of no or too much strength"
COLOURS = "triggers of impossible colours"
KIND = "triggers that are not float32"
BETWEEN = "triggers between impossible classes"
RATE = "a trigger's rate below 0 or above 1"


@pytest.mark.parametrize(
    ("triggers", "reason"),
    [
        ([found()] * 9, MANY),
        (None, MANY),
        (7, MANY),
        ({found()}, MANY),
        (iter([found()]), MANY),
        (found(), MANY),
        ("abc", MANY),
        ([None], NONE),
        ([found().trigger], NONE),
        ([FoundTrigger(None, 0, 1, 1.0)], NONE),  # type: ignore[arg-type]
        ([replace(found(), trigger=Patch(torch.ones(1, 8, 16).double(), torch.ones(SHAPE)))], KIND),
        ([replace(found(), trigger=Patch(torch.ones(1, 8, 16), torch.ones(SHAPE).half()))], KIND),
        ([replace(found(), trigger=Patch(torch.zeros(1, 8, 16), torch.ones(SHAPE)))], LARGE),
        ([found(shape=(1, 16, 8))], OTHER),
        ([found(shape=(3, 8, 16))], OTHER),
        ([found(*((row, column) for row in range(5) for column in range(5)))], LARGE),
        ([faint(0.11)], FAINT),
        ([faint(0.0)], FAINT),
        ([impossible(float("nan"))], COLOURS),
        ([impossible(-1.5)], COLOURS),
        ([faint(0.05, (1, 16, 8))], OTHER),
        ([faint(0.05, (3, 8, 16))], OTHER),
        ([replace(found(), trigger=Addition(torch.full(SHAPE, 0.05).double()))], KIND),
        ([soft(0.5)], LARGE),
        ([soft(1e-6)], LARGE),
        ([tampered(float("nan"))], COLOURS),
        ([found(source=1)], BETWEEN),
        ([found(target=4)], BETWEEN),
        ([found(source=-1)], BETWEEN),
        ([found(source=2, target=True)], BETWEEN),
        ([found(source=False)], BETWEEN),
        ([found(source="0")], BETWEEN),
        ([found(target=1.0)], BETWEEN),
        ([found(target=None)], BETWEEN),
        ([found(source=torch.tensor([0, 1]))], BETWEEN),
        ([found(rate=float("nan"))], RATE),
        ([found(rate=1.01)], RATE),
        ([found(rate=float("inf"))], RATE),
        ([found(rate=-0.01)], RATE),
        ([found(rate=1)], RATE),
        ([found(rate="1.0")], RATE),
        ([found(rate=torch.tensor(0.5))], RATE),
    ],
)
def test_what_is_wrong_is_refused_and_told(triggers: Any, reason: str) -> None:
    made = pool()
    made.add(0, [found()])
    assert made.add(1, triggers) == reason
    assert [client for client, _ in made.found] == [0]
    assert (made.counted, made.missing, dict(made.refused)) == (1, 2, {reason: 1})


def test_one_bad_trigger_spoils_the_reply() -> None:
    made = pool()
    assert made.add(0, [found(), found(rate=2.0), found()]) == RATE
    assert made.found == []


def test_limits_are_included() -> None:
    made = pool(most=1, pixels=2)
    assert made.add(0, [found((0, 0), (0, 1), source=3, target=0, rate=1.0)]) is None
    assert made.add(1, [found(rate=0.0)]) is None
    assert made.add(2, [found(), found()]) == MANY
    assert made.add(3, [found((0, 0), (0, 1), (0, 2))]) == LARGE


def test_one_reply_a_client() -> None:
    """A second one is refused, even after a bad first, and so is a stranger's."""
    made = pool(clients=2)
    assert made.add(0, [found()]) is None
    assert made.add(0, [found()]) == "a second ballot of one client"
    assert made.add(1, [soft(0.5)]) == LARGE
    assert made.add(1, [found()]) == "a second ballot of one client"
    for stranger in (2, -1, True, "0", None):
        assert made.add(stranger, [found()]) == "not a client of this vote"  # type: ignore[arg-type]
    assert len(made.found) == made.counted == 1
    assert made.refused.total() == 8


def test_a_pool_needs_clients() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        pool(clients=0)


# Checked on the server's images


def cornered() -> nn.Sequential:
    """A white pixel at (0, 0) says class 1, one at (0, 1) class 2, one at (0, 2) class 0 all the more."""
    model = linear(4, 1, SHAPE[1:])
    assert isinstance(model, nn.Sequential)
    weight = model[1].weight.data.view(4, 8, 16)
    weight[:] = 0
    weight[1, 0, 0], weight[2, 0, 1], weight[0, 0, 2] = 4.0, 5.0, 3.0
    model[1].bias.data.copy_(torch.tensor([3.0, 0.0, 0.0, 0.0]))
    return model


def test_claims_give_way_to_what_the_server_measures() -> None:
    """Of class 0 four images resist, six don't, and two are mistaken as they are; of class 2 none is right."""
    images = torch.zeros(21, *SHAPE)
    images[:4, 0, 0, 2] = 1
    images[10:12, 0, 0, 1] = 1
    labels = torch.tensor([0] * 12 + [2] * 9)
    made = pool()
    made.add(0, [found(rate=1.0), found((5, 5), rate=1.0), found((0, 1), target=2, rate=0.1)])
    made.add(1, [found(source=2, rate=0.3), found(source=3, target=0, rate=0.7)])
    made.check(cornered(), images, labels)
    assert rates(made) == pytest.approx([0.6, 0.0, 0.6, 0.0, 0.0])
    assert [client for client, _ in made.found] == [0, 0, 0, 1, 1]
    assert [(each.source_class, each.target_class) for _, each in made.found] == [
        *((0, 1), (0, 1), (0, 2)),
        *((2, 1), (3, 0)),
    ]


def test_the_measured_rates_are_floats_and_images_may_be_bytes() -> None:
    made, images = pool(), torch.zeros(10, *SHAPE, dtype=torch.uint8)
    made.add(0, [found(rate=0.0)])
    made.check(cornered(), images, torch.zeros(10, dtype=torch.int64))
    assert rates(made) == [1.0]
    assert type(rates(made)[0]) is float
    assert not images.any()


def test_checking_leaves_the_model_and_the_claim_as_they_are() -> None:
    model = nn.Sequential(cornered(), nn.Dropout(0.5)).train()
    model[0].eval()
    before, claim = deepcopy(model.state_dict()), found(rate=0.25)
    made = pool()
    made.add(0, [claim])
    made.check(model, torch.zeros(10, *SHAPE), torch.zeros(10, dtype=torch.int64))
    assert rates(made) == [1.0]
    assert claim.rate == 0.25
    assert [part.training for part in model] == [False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# What is made of them


def filled() -> TriggerPool:
    made = pool()
    made.add(3, [found((1, 2), rate=0.2), found((7, 15), (0, 3), source=2, target=3, rate=0.9)])
    made.add(1, [found((4, 4), target=2, rate=0.5), found((5, 5), rate=0.9)])
    return made


def test_the_best_have_the_highest_rates() -> None:
    assert [each.rate for each in filled().best(3)] == [0.9, 0.9, 0.5]
    assert [each.rate for each in filled().best(9)] == [0.9, 0.9, 0.5]  # one for each pair of classes
    assert filled().best(1)[0].source_class == 2  # of two alike the one that came first
    assert pool().best(3) == []


def test_the_list_starts_with_the_highest_rate() -> None:
    listed = [
        (each.client, each.source_class, each.target_class, each.rate, each.pixels)
        for each in filled().listed()
    ]
    assert listed == [
        (3, 2, 3, 0.9, ((0, 3), (7, 15))),
        (1, 0, 1, 0.9, ((5, 5),)),
        (1, 0, 2, 0.5, ((4, 4),)),
        (3, 0, 1, 0.2, ((1, 2),)),
    ]
    assert pool().listed() == ()


def test_every_trigger_is_a_target() -> None:
    made = filled()
    named = [(each.target, each.sources, each.success, each.trigger) for each in made.targets()]
    assert named == [
        (found.target_class, (found.source_class,), found.rate, found.trigger) for _, found in made.found
    ]
    assert len(named) == 4
    assert pool().targets() == ()
