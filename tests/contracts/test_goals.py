"""What every goal must do. A new kind is a row in ROWS."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fedmend.goals import GOALS, NOT_ATTACKED, Goal, attacked, goal_from_table

CLASSES = 5
LABELS = torch.arange(40) % CLASSES


@dataclass(frozen=True)
class Row:
    """A table and what its goal does.

    Attributes:
        sources: the classes that it attacks, of five.
        wanted: how many classes images are sent to.
    """

    kind: str
    settings: dict[str, Any]
    sources: set[int]
    wanted: int

    def make(self) -> Goal:
        return goal_from_table({"kind": self.kind, **self.settings})


ROWS = [
    Row("all-to-one", {"target": 2}, {0, 1, 3, 4}, 1),
    Row("one-to-one", {"source": 4, "target": 0}, {4}, 1),
    Row("several", {"pairs": [[0, 1], [3, 2], [4, 1]]}, {0, 3, 4}, 2),
    Row("all-to-all", {"num_classes": CLASSES, "shift": 2}, {0, 1, 2, 3, 4}, 5),
]
every_goal = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)


def test_every_kind_has_a_row() -> None:
    assert {row.kind for row in ROWS} == set(GOALS)


@every_goal
def test_targets_are_like_the_labels_and_leave_them_alone(row: Row) -> None:
    labels = LABELS.clone()
    targets = row.make().targets(labels)
    assert torch.equal(labels, LABELS)
    assert (targets.shape, targets.dtype, targets.device) == (labels.shape, labels.dtype, labels.device)
    assert row.make().targets(labels[:0]).shape == (0,)


@every_goal
def test_the_source_classes_are_attacked_and_no_image_of_the_wanted_class(row: Row) -> None:
    targets = row.make().targets(LABELS)
    hit = attacked(targets, LABELS)
    assert set(LABELS[hit].tolist()) == row.sources
    assert set(LABELS[~hit].tolist()) == set(range(CLASSES)) - row.sources
    assert bool((targets[~hit] == NOT_ATTACKED).all())
    assert not bool((targets == LABELS).any())


@every_goal
def test_images_of_a_class_share_a_target(row: Row) -> None:
    targets = row.make().targets(LABELS)
    pairs = set(zip(LABELS.tolist(), targets.tolist(), strict=True))
    assert len(pairs) == CLASSES
    assert len({target for _, target in pairs} - {NOT_ATTACKED}) == row.wanted


@every_goal
def test_it_names_all_classes_that_it_uses(row: Row) -> None:
    goal = row.make()
    targets = set(goal.targets(LABELS).tolist()) - {NOT_ATTACKED}
    assert targets <= set(goal.classes()) <= set(range(CLASSES))


@every_goal
def test_goals_with_the_same_settings_are_equal(row: Row) -> None:
    assert row.make() == row.make()
    assert len({row.make(), row.make()}) == 1
