from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmend.errors import DataError, OutputError
from fedmend.pages import ReportContents, read_folder, render, write_evaluation, write_prune_evaluation

TRIGGER = {"client": 1, "source_class": 9, "target_class": 7, "rate": 0.5, "pixels": [[0, 1]]}


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    (tmp_path / "prune.json").write_text(made.pruning().to_json())
    write_prune_evaluation(tmp_path, made.prune_evaluation())
    return tmp_path


def test_read_as_written(made: Any, folder: Path) -> None:
    contents = read_folder(folder)
    assert contents.pruning == made.pruning()
    assert contents.prune_evaluation == made.prune_evaluation()
    (folder / "prune_evaluation.json").unlink()
    contents = read_folder(folder)
    assert contents.prune_evaluation is None
    assert "3 of 6 channels pruned." in render(contents)


def test_stands_beside_an_attacks_evaluation(made: Any, folder: Path) -> None:
    write_evaluation(folder, made.attack())
    contents = read_folder(folder)
    assert contents.attack is not None
    assert contents.prune_evaluation == made.prune_evaluation()


def test_what_cannot_be_written_is_an_error(made: Any, folder: Path) -> None:
    with pytest.raises(OutputError):
        write_prune_evaluation(folder / "prune.json", made.prune_evaluation())


@pytest.mark.parametrize("name", ["prune.json", "prune_evaluation.json"])
@pytest.mark.parametrize("damage", [b"", b"[1]", b"\xff\xfe", b'{"asr": ', b'{"surprise": 1}'])
def test_a_damaged_file_is_one_clear_line(folder: Path, name: str, damage: bytes) -> None:
    (folder / name).write_bytes(damage)
    with pytest.raises(DataError, match=rf"{name} is damaged") as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


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
        ({"stages": [{"name": "mended", "accuracy": 1, "zeroed": 0}]}, "stages"),
        ({"values": [0.5]}, "a value for each extreme weight"),
        ({"extreme": [[1, 2]], "values": [0.5]}, "a place of four numbers"),
        ({"triggers": [TRIGGER | {"rate": 1.5}]}, r"trigger's rate in \[0, 1\]"),
        ({"triggers": [TRIGGER | {"pixels": [[0, -1]]}]}, "rows and columns from 0"),
    ],
)
def test_a_report_that_contradicts_itself(folder: Path, change: dict[str, Any], complaint: str) -> None:
    text = json.loads((folder / "prune.json").read_text())
    (folder / "prune.json").write_text(json.dumps(text | change))
    with pytest.raises(DataError, match=rf"prune\.json is damaged: .*{complaint}.*prune again"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"asr_along": (0.5,)}, "asr_along has 1 values, but the pruning report has 6 testing points"),
        ({"accuracy": ()}, "accuracy has 0 values, but the pruning report has 5 stages"),
        ({"asr": (0.5,) * 6}, "asr has 6 values, but the pruning report has 5 stages"),
    ],
)
def test_an_evaluation_of_another_report(
    made: Any, folder: Path, change: dict[str, Any], complaint: str
) -> None:
    wrong = made.prune_evaluation(**change)
    write_prune_evaluation(folder, wrong)
    with pytest.raises(DataError, match=rf"prune_evaluation\.json doesn't belong to .*{complaint}"):
        read_folder(folder)
    with pytest.raises(DataError, match=complaint):
        ReportContents("x", pruning=made.pruning(), prune_evaluation=wrong)


def test_an_evaluation_of_no_report(made: Any, folder: Path) -> None:
    (folder / "prune.json").unlink()
    with pytest.raises(DataError, match="nothing to report"):
        read_folder(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"prune_evaluation\.json has no prune\.json beside it"):
        read_folder(folder)
    with pytest.raises(DataError, match="got an evaluation alone"):
        ReportContents("x", prune_evaluation=made.prune_evaluation())


@pytest.mark.parametrize("change", [{"asr": [1.5] * 5}, {"accuracy": [-0.1] * 5}, {"num_images": 0}])
def test_shares_and_counts_out_of_range(folder: Path, change: dict[str, Any]) -> None:
    text = json.loads((folder / "prune_evaluation.json").read_text())
    (folder / "prune_evaluation.json").write_text(json.dumps(text | change))
    with pytest.raises(DataError, match=r"prune_evaluation\.json is damaged"):
        read_folder(folder)
