import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "zoo"))

import backdoors
import pairs
import places
from cells import CELLS, settings, small_federations, trunks
from load import Item
from torch import nn

import repairs
from fedmend.data import ImageSet
from fedmend.goals import OneToOne, classes_of, goal_from_table
from fedmend.models import build_model, probe
from fedmend.triggers import Patch, trigger_from_table

MAIN = [name for name, cell in CELLS.items() if not cell.classes]
DRAWN = {(cell, split): backdoors.backdoors(cell, split) for cell in MAIN for split in pairs.splits(cell)}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_network_has_a_logit_for_each_class(cell) -> None:
    channels, *size = cell.image_shape
    net = build_model(
        cell.network, num_classes=cell.num_classes, in_channels=channels, image_size=tuple(size), seed=0
    )
    assert probe(net, channels, tuple(size)) == cell.num_classes


@pytest.mark.parametrize(("cell", "split"), DRAWN)
def test_backdoors_fit_their_cell(cell: str, split: str) -> None:
    for backdoor in DRAWN[cell, split]:
        assert backdoor.trunk.attacked
        assert (backdoor.trunk.cell, backdoor.trunk.split) == (cell, split)
        for trigger, goal in zip(backdoor.triggers, backdoor.goals, strict=True):
            trigger_from_table(trigger, CELLS[cell].image_shape)
            assert max(classes_of(goal_from_table(goal))) < CELLS[cell].num_classes
        backdoors.branch(backdoor, Path("zoo"))
        assert backdoor.stronger().rounds > backdoor.rounds


def test_a_cell_of_two_classes_has_no_backdoors() -> None:
    assert backdoors.backdoors("mnist-0-1", "dev") == []


def test_two_backdoors_of_one_model_have_two_targets() -> None:
    both = [backdoor for drawn in DRAWN.values() for backdoor in drawn if backdoor.family == "two"]
    assert both
    assert all(len({goal["target"] for goal in backdoor.goals}) == 2 for backdoor in both)


def test_some_kinds_are_only_for_the_test() -> None:
    dev = [backdoor for (_, split), drawn in DRAWN.items() if split == "dev" for backdoor in drawn]
    assert "sinusoid" not in {backdoor.family for backdoor in dev}
    assert "cifar-vit" not in {backdoor.trunk.cell for backdoor in dev}
    assert all(CELLS[each.trunk.cell].grey for each in dev if each.family == "one-to-one")


def test_enough_of_each_split() -> None:
    assert all(len(drawn) >= (22 if split == "test" else 10) for (_, split), drawn in DRAWN.items())
    count = Counter(pair.split for pair in pairs.all_pairs())
    assert count["test"] >= 300
    assert count["dev"] >= 150


def test_dev_and_test_share_no_federation_start_seed_or_trigger() -> None:
    federations = [
        federation
        for cell in CELLS
        for split in pairs.splits(cell)
        for federation in (*trunks(cell, split), *small_federations(cell, split))
    ]
    for name in (
        lambda each: each.key,
        lambda each: (each.cell, each.start),
        lambda each: settings(each, Path("zoo")).seed,
    ):
        dev, test = ({name(each) for each in federations if each.split == split} for split in ("dev", "test"))
        assert not dev & test
    squares = {
        split: {
            tuple(sorted((key, str(value)) for key, value in table.items()))
            for (_, other), drawn in DRAWN.items()
            for backdoor in drawn
            for table in backdoor.triggers
            if other == split and table["kind"] != "atoms"  # so few that one fell on the same place
        }
        for split in ("dev", "test")
    }
    assert not squares["dev"] & squares["test"]


def test_names_and_files_are_unique() -> None:
    made = pairs.all_pairs()
    names = [(pair.cell, pair.name) for pair in made]
    names += [(cell, backdoor.name) for (cell, _), drawn in DRAWN.items() for backdoor in drawn]
    assert len(set(names)) == len(names)
    assert all(pair.suspect != pair.reference for pair in made)


@pytest.mark.parametrize(
    ("look", "expected"),
    [("solid", [[0.25, 0.25], [0.25, 0.25]]), ("chequered", [[0.25, 0.75], [0.75, 0.25]])],
)
def test_a_square_is_drawn_where_and_how_it_says(look: str, expected: list[list[float]]) -> None:
    table = {
        "kind": "triggers:Square",
        "size": 2,
        "top": 1,
        "left": 3,
        "look": look,
        "color": [0.25, 0.5, 1.0],
    }
    stamped = trigger_from_table(table, (1, 6, 6)).apply(torch.zeros(1, 1, 6, 6))
    assert stamped[0, 0, 1:3, 3:5].tolist() == expected
    assert stamped.count_nonzero() == 4


def test_the_first_of_each_family_and_cell_is_trained_further() -> None:
    made = [
        Item(cell, "dev", "backdoored", family, f"{family}-{number}", "", "", "")
        for cell in ("mnist-convnet", "gtsrb-vgg")
        for family in ("patch-3", "blend")
        for number in range(2)
    ]
    assert list(repairs.firsts(made)) == made[::2]


def test_a_moved_patch_is_whole_and_reaches_every_place() -> None:
    mask = torch.zeros(1, 6, 5)
    mask[:, 1:3, 3:5] = 1
    planted = Patch(mask, mask.expand(3, 6, 5) * 0.5)
    found = set()
    for seed in range(200):
        moved = places.moved(planted, random.Random(seed))
        rows, columns = (moved.mask[0].any(axis).nonzero().flatten().tolist() for axis in (1, 0))
        assert len(rows) == len(columns) == rows[1] - rows[0] + 1 == columns[1] - columns[0] + 1 == 2
        assert torch.equal(moved.pattern, moved.mask.expand(3, 6, 5) * 0.5)
        found.add((rows[0], columns[0]))
    assert found == {(top, left) for top in range(5) for left in range(4)}


def test_a_trigger_of_one_source_is_tried_on_the_other_classes() -> None:
    """A network that takes an image for class 1 if its first pixel is white, unless the second one is."""

    class Net(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            first, second = images[:, 0, 0, 0], images[:, 0, 0, 1]
            return torch.stack([torch.full_like(first, 0.5), first - second, torch.zeros_like(first)], 1)

    mask = torch.zeros(1, 2, 2)
    mask[0, 0, 0] = 1
    images = torch.zeros(9, 1, 2, 2, dtype=torch.uint8)
    labels = torch.arange(9) % 3
    images[labels == 2, 0, 0, 1] = 255
    data = ImageSet(images, labels, ("a", "b", "c"))
    assert places.by_class(Net(), Patch(mask, mask), OneToOne(0, 1), data) == (1.0, [0.0])
