from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError
from fedmend.goals import (
    GOALS,
    NOT_ATTACKED,
    AllToAll,
    AllToOne,
    Goal,
    OneToOne,
    Several,
    attacked,
    classes_of,
    goal_from_table,
    targets_of,
)

LABELS = torch.tensor([0, 1, 2, 3, 1])


class Whatever:
    """Not a goal: one method is missing."""

    def targets(self, labels: Tensor) -> Tensor:
        return labels


@pytest.mark.parametrize(
    ("goal", "targets", "classes"),
    [
        (AllToOne(1), [1, NOT_ATTACKED, 1, 1, NOT_ATTACKED], (1,)),
        (OneToOne(3, 0), [NOT_ATTACKED, NOT_ATTACKED, NOT_ATTACKED, 0, NOT_ATTACKED], (3, 0)),
        (Several(((1, 2), (3, 0))), [NOT_ATTACKED, 2, NOT_ATTACKED, 0, 2], (0, 1, 2, 3)),
        (AllToAll(4), [1, 2, 3, 0, 2], (0, 1, 2, 3)),
        (AllToAll(4, shift=3), [3, 0, 1, 2, 0], (0, 1, 2, 3)),
    ],
)
def test_targets_by_hand(goal: Goal, targets: list[int], classes: tuple[int, ...]) -> None:
    assert goal.targets(LABELS).tolist() == targets
    assert goal.classes() == classes


def test_an_image_of_the_wanted_class_is_not_attacked() -> None:
    assert attacked(torch.tensor([-1, 0, 1, 2]), torch.tensor([0, 0, 0, 2])).tolist() == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("table", "goal"),
    [
        ({"kind": "all-to-one", "target": 2}, AllToOne(2)),
        ({"kind": "one_to_one", "source": 3, "target": 2}, OneToOne(3, 2)),
        ({"kind": "several", "pairs": [[1, 2], [3, 0]]}, Several(((1, 2), (3, 0)))),
        ({"kind": "all-to-all", "num_classes": 10}, AllToAll(10, shift=1)),
        ({"kind": f"{__name__}:AllToOne", "target": 5}, AllToOne(5)),
    ],
)
def test_a_table_gives_the_goal_that_it_describes(
    table: dict[str, Any], goal: Goal, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setitem(__import__("sys").modules, __name__, request.module)
    assert goal_from_table(table) == goal


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "all-to-many"}, "did you mean all-to-one?"),
        ({"kind": "all-to-one"}, "target"),
        ({"kind": "all-to-one", "target": -1}, "target: .* got -1"),
        ({"kind": "all-to-one", "target": True}, "target"),
        ({"kind": "one-to-one", "source": 2, "target": 2}, "must differ; both are 2"),
        ({"kind": "several", "pairs": []}, "one or more"),
        ({"kind": "several", "pairs": [[1, 2], [1, 3]]}, "each source once"),
        ({"kind": "several", "pairs": [[1, 1]]}, "not its own target"),
        ({"kind": "several", "pairs": [[1, 2, 3]]}, "pairs"),
        ({"kind": "all-to-all", "num_classes": 5, "shift": 10}, "sends each of 5 classes to itself"),
    ],
)
def test_bad_tables_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        goal_from_table(table)


def test_what_is_no_goal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GOALS, "whatever", Whatever)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Whatever lacks classes"):
        goal_from_table({"kind": "whatever"})


class Own:
    """Returns what it is told to; calls it if it can."""

    def __init__(self, targets: Any, classes: Any = (0, 2)) -> None:
        self.wanted, self.named = targets, classes

    def targets(self, labels: Tensor) -> Tensor:
        return self.wanted(labels) if callable(self.wanted) else self.wanted  # type: ignore[no-any-return]

    def classes(self) -> tuple[int, ...]:
        return self.named() if callable(self.named) else self.named  # type: ignore[no-any-return]


def test_a_goal_of_ones_own_may_leave_images_alone() -> None:
    wanted = torch.tensor([2, 2, NOT_ATTACKED, 0, NOT_ATTACKED])
    assert torch.equal(targets_of(Own(wanted), LABELS), wanted)
    assert targets_of(Own(lambda labels: labels * 0), LABELS[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (None, r"must return int64 \(5,\) from targets\(labels\), on their device; got a NoneType"),
        ([0] * 5, "must return int64 .*; got a list"),
        (LABELS * 0.5, r"must return int64 .*; got torch.float32 \(5,\)"),
        (LABELS[1:] * 0, r"must return int64 .*; got torch.int64 \(4,\)"),
        (LABELS.to("meta"), "must return .* on meta"),
        (LABELS * 0 + 99, r"sends images to 99, but its classes\(\) are \(0, 2\)"),
        (LABELS * 0 - 2, "sends images to -2"),
        (lambda labels: labels.nonsense, r"failed at .*test_goals.py:\d+: AttributeError"),
    ],
)
def test_what_a_goal_of_ones_own_wants_is_checked(targets: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"the goal Own {told}"):
        targets_of(Own(targets), LABELS)


@pytest.mark.parametrize("classes", [None, [0, 2], (), (0.5,), (-1,), (True,), 3])
def test_the_classes_of_a_goal_of_ones_own_are_checked(classes: Any) -> None:
    with pytest.raises(ConfigError, match="the goal Own must return a tuple of whole numbers from 0"):
        classes_of(Own(LABELS, classes))


def test_classes_that_fail_are_named() -> None:
    with pytest.raises(ConfigError, match=r"the goal Own failed at .*ZeroDivisionError"):
        classes_of(Own(LABELS, lambda: 1 / 0))
