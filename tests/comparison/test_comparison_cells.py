from dataclasses import replace
from typing import Any

from fedmend.comparison import Cell, Votes, cells_of, plan_from_tables, with_honest


def test_same_settings_same_key(tables: Any) -> None:
    plan = plan_from_tables(tables(seeds=[0, 1], a={"x": {}, "y": {"training": {"epochs": 2}}}))
    first, second, third, _ = cells_of(plan)
    assert first.key == third.key != second.key
    assert first.folder != third.folder
    voting = Cell(first.choices, first.config, Votes())
    assert voting.key not in (first.key, Cell(first.choices, first.config, Votes(fine_tuning_rounds=1)).key)


def test_each_honest_federation_runs_once(tables: Any) -> None:
    defences = {"nothing": {}, "guard": {"guard": {"warm_up": 1}}, "votes": {"votes": {}}}
    cells = cells_of(plan_from_tables(tables(seeds=[0, 1], defence=defences)))
    every = with_honest(cells)
    assert every[:6] == cells
    assert [cell.config.seed for cell in every[6:]] == [0, 1]
    for cell in every[6:]:
        assert (cell.config.attack, cell.config.guard, cell.votes) == ((), None, None)
        assert cell.folder.startswith("honest-seed-")


def test_a_folders_name_is_one(tables: Any) -> None:
    (cell,) = cells_of(plan_from_tables(tables(a={"x": {}})))
    for label in ("../../up", "ü/\\:*", "long " * 50, "..", ""):
        folder = replace(cell, choices={"a": label}).folder
        assert set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
        assert not folder.startswith((".", "-"))
        assert len(folder) < 80
