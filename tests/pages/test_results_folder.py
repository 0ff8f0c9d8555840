from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmend.errors import CheckpointError, DataError
from fedmend.files import write_together
from fedmend.pages import PageContents, page_settings_file, read_folder, render

CONFIG = {"seed": 0, "data": {"source": "fashion-mnist-sample"}}
TRIGGER = {"client": 1, "source_class": 9, "target_class": 7, "rate": 0.5, "pixels": [[0, 1]]}


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    (tmp_path / "scan.json").write_text(made.scan().to_json())
    (tmp_path / "repair.json").write_text(made.repair().to_json())
    lines = [
        {"round": each.round, "accuracy": each.accuracy, "clients": [3, 5], "seconds": 1.5}
        for each in made.rounds()
    ]
    (tmp_path / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_together(tmp_path, page_settings_file(title="My run", reference_round=6, suspect_round=10))
    return tmp_path


@pytest.fixture
def pruned(made: Any, tmp_path: Path) -> Path:
    (tmp_path / "repair.json").write_text(made.pruned().to_json())
    return tmp_path


def test_everything_is_gathered(made: Any, folder: Path) -> None:
    contents = read_folder(folder)
    assert contents.title == "My run"
    assert contents.scan is not None
    assert contents.scan.findings[0].measures == made.measures()
    assert contents.repair == made.repair()
    assert contents.rounds == made.rounds()
    assert (contents.reference_round, contents.suspect_round, contents.first_attack_round) == (6, 10, None)
    assert contents.settings == CONFIG
    assert contents.attacks == contents.attacked_rounds == ()
    assert contents.evaluation is contents.prune_evaluation is None
    assert "nknown to the defender" not in render(contents)


@pytest.mark.parametrize("name", ["scan.json", "repair.json", "rounds.jsonl", "config.json"])
def test_each_file_is_enough_and_none_is_needed(folder: Path, tmp_path: Path, name: str) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / name).write_bytes((folder / name).read_bytes())
    contents = read_folder(alone)
    assert contents.title == "Results in alone"
    assert render(contents)
    (folder / name).unlink()
    assert render(read_folder(folder))


def test_a_torn_line_is_skipped(made: Any, folder: Path) -> None:
    file = folder / "rounds.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert read_folder(folder).rounds == made.rounds()[:-1]


def test_rounds_are_put_in_order_and_the_later_line_counts(folder: Path) -> None:
    lines = [
        '{"round": 2, "accuracy": 0.5}',
        '{"round": 1, "accuracy": 0.1}',
        '{"round": 2, "accuracy": 0.7}',
    ]
    (folder / "rounds.jsonl").write_text("\n".join(lines))
    assert [(each.round, each.accuracy) for each in read_folder(folder).rounds] == [(1, 0.1), (2, 0.7)]


@pytest.mark.parametrize(
    "settings", [{}, {"title": "„Ü“"}, {"reference_round": 0, "suspect_round": 9}, {"suspect_round": 9}]
)
def test_page_settings_are_read_as_they_were_written(folder: Path, settings: dict[str, Any]) -> None:
    write_together(folder, page_settings_file(**settings))
    contents = read_folder(folder)
    assert contents.title == settings.get("title", f"Results in {folder.name}")
    assert contents.reference_round == settings.get("reference_round")
    assert contents.suspect_round == settings.get("suspect_round")


def test_what_is_about_to_be_written_counts_as_written(made: Any, folder: Path, tmp_path: Path) -> None:
    repair = replace(made.repair(), reason="Another one.")
    pending = {"repair.json": repair.to_json(), "scan.json": None, **page_settings_file(title="Soon")}
    contents = read_folder(folder, pending)
    assert (contents.repair, contents.scan, contents.title) == (repair, None, "Soon")
    assert contents.settings == CONFIG
    contents = read_folder(tmp_path / "not there yet", pending)
    assert (contents.repair, contents.settings) == (repair, {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.json", b""),
        ("scan.json", b'{"verdict": "clean"}'),
        ("repair.json", b'{"outcome": "repaired", "reason": "", "surprise": 1}'),
        ("repair.json", b'{"outcome": "mended", "reason": ""}'),
        ("repair.json", b'{"outcome": '),
        ("config.json", b"[1, 2]"),
        ("config.json", b"\xff\xfe"),
        ("page.json", b'{"titel": "x"}'),
    ],
)
def test_a_damaged_file_is_one_clear_line(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is damaged") as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["scan.json", "repair.json", "config.json", "page.json", "rounds.jsonl"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("9" * 5000, "a number of 5000 digits"),
        ("-" + "9" * 5000, "a number of 5001 digits"),
        ("1e400", "a number above 1e\\+100"),
        ("-1.5e308", "a number above 1e\\+100"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=["integer", "negative", "infinite", "large", "nested"],
)
def test_numbers_and_nesting_that_no_result_has(folder: Path, name: str, value: str, said: str) -> None:
    (folder / name).write_text(f'{{"round": {value}, "accuracy": 0.5, "seed": {value}}}')
    with pytest.raises(DataError, match=rf"{name} is damaged: it .*{said}") as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_the_largest_rounds_and_infinite_settings_are_shown(folder: Path) -> None:
    (folder / "rounds.jsonl").write_text(
        '{"round": 1, "accuracy": 0.5}\n{"round": 999999999999999999, "accuracy": 0.6}\n'
    )
    (folder / "config.json").write_text('{"a": Infinity, "b": NaN, "c": 1e99}')
    assert render(read_folder(folder))


@pytest.mark.parametrize(("name", "advice"), [("scan.json", "scan again"), ("repair.json", "repair again")])
def test_a_truncated_result_is_one_clear_line(folder: Path, name: str, advice: str) -> None:
    text = (folder / name).read_text()
    (folder / name).write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=advice) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["scan.json", "rounds.jsonl"])
def test_a_folder_in_a_files_place(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises((DataError, CheckpointError), match=name):
        read_folder(folder)


def test_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected at least one of scan\.json, repair\.json"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        read_folder(tmp_path / "absent")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(DataError, match="nothing to show"):
        read_folder(tmp_path)


def test_a_pruning_is_read_as_written(made: Any, pruned: Path) -> None:
    details = made.pruning(triggers=(made.found(), made.found(pixels=())))
    (pruned / "repair.json").write_text(made.pruned(details).to_json())
    contents = read_folder(pruned)
    assert contents.repair == made.pruned(details)
    assert contents.pruning == details


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sequence": [0, 1, 2, 3, 4, 4]}, "each of the 6 channels once"),
        ({"channels": 10**12}, "each of the 1000000000000 channels once"),
        ({"accuracies": [0.9]}, "an accuracy for each testing point; got 1 for 6"),
        ({"points": [0, 1, 2, 3, 5, 4]}, "points that rise"),
        ({"points": [0, 1, 2, 3, 4, 6]}, "below 6 channels"),
        ({"points": [-1, 1, 2, 3, 4, 5]}, "points that rise from 0"),
        ({"pruned": [0]}, "the first of the sequence"),
        ({"stages": []}, "at least one stage"),
        ({"values": [0.5]}, "a value for each extreme weight"),
        ({"extreme": [[1, 2]], "values": [0.5]}, "a place of four numbers"),
        ({"triggers": [TRIGGER | {"rate": 1.5}]}, r"trigger's rate in \[0, 1\]"),
        ({"triggers": [TRIGGER | {"pixels": [[0, -1]]}]}, "rows and columns from 0"),
    ],
)
def test_a_pruning_that_contradicts_itself(pruned: Path, change: dict[str, Any], complaint: str) -> None:
    table = json.loads((pruned / "repair.json").read_text())
    (pruned / "repair.json").write_text(json.dumps(table | {"details": table["details"] | change}))
    with pytest.raises(DataError, match=rf"repair\.json is damaged: .*{complaint}.*repair again"):
        read_folder(pruned)


def test_an_evaluation_needs_its_pruning(made: Any) -> None:
    with pytest.raises(DataError, match="got only an evaluation"):
        PageContents("x", prune_evaluation=made.prune_evaluation())
    with pytest.raises(DataError, match="got only an evaluation"):
        PageContents("x", repair=made.repair(), prune_evaluation=made.prune_evaluation())
    with pytest.raises(DataError, match="asr has 6 values, but the pruning has 5 stages"):
        PageContents("x", repair=made.pruned(), prune_evaluation=made.prune_evaluation(asr=((0.5,),) * 6))
