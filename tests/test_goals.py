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
    goal_from_table,
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
