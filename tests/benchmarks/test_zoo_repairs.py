import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.zoo.repair_results import table, targets


def line(
    family: str = "patch-3", after: float | None = 0.01, lost: float = 0.0, **changes: Any
) -> dict[str, Any]:
    """A model's line; with no rate after, it was not repaired."""
    repaired = {} if after is None else {"repaired": [0.0, after]}
    accuracies = {"suspect": 0.9, "reference": 0.9} | ({} if after is None else {"repaired": 0.9 - lost})
    return {
        "family": family,
        "outcome": "failed" if after is None else "repaired",
        "asr": {"suspect": [0.9, 0.8], "reference": [0.02, 0.0]} | repaired,
        "accuracy": accuracies,
        "commit": "0" * 12,
    } | changes


def folder(path: Path, lines: list[dict[str, Any]]) -> Path:
    (path / "repairs").mkdir()
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (path / "repairs" / "test.jsonl").write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("lines", "asr", "accuracy"),
    [
        ([line(), line(after=0.05, lost=0.01 - 1e-9)], "missed", "met"),  # a median of 3 %
        ([line(), line(), line(after=0.05)], "met", "met"),
        ([line(), line(), line(after=0.051)], "missed", "met"),
        ([line(), line(), line(lost=0.011)], "met", "missed"),
        ([line(), line(), line(after=None)], "missed", "missed"),  # not repaired
        ([], "not run", "not run"),
    ],
)
def test_repairs_are_judged_by_the_worst_backdoor_of_each_model(
    tmp_path: Path, lines: list[dict[str, Any]], asr: str, accuracy: str
) -> None:
    found = targets(folder(tmp_path, lines), len(lines) or 5)
    assert [each.status for each in found] == [asr, accuracy]


def test_part_of_the_models_is_incomplete(tmp_path: Path) -> None:
    assert [each.status for each in targets(folder(tmp_path, [line()]), 2)] == ["incomplete"] * 2


def test_a_row_a_family(tmp_path: Path) -> None:
    text = "\n".join(table(folder(tmp_path, [line(), line("blend", after=None)])))
    assert "| patch-3 | repaired 1 | 90.0 % (to 90.0 %) | 1.0 % (to 1.0 %) |" in text
    assert "| blend | failed 1 | 90.0 % (to 90.0 %) | – |" in text
    assert "| all | repaired 1, failed 1 |" in text
    assert not table(tmp_path / "none")


def test_accuracy_is_compared_with_the_reference_too(tmp_path: Path) -> None:
    accuracies = {"suspect": 0.8, "reference": 0.9, "repaired": 0.85}
    text = "\n".join(table(folder(tmp_path, [line(accuracy=accuracies)])))
    assert "| -5.0 (to -5.0) | 5.0 (to 5.0) |" in text
    assert "After the repair" not in text


def test_what_further_rounds_bring(tmp_path: Path) -> None:
    further = {
        start: {"honest": {"asr": [0.0, low]}, "attacked": {"asr": [0.0, low + 0.5]}}
        for start, low in (("repaired", 0.03), ("reference", 0.01))
    }
    text = "\n".join(table(folder(tmp_path, [line(further=further), line("blend")])))
    assert (
        "| patch-3 | 1 | 3.0 % (to 3.0 %) | 1.0 % (to 1.0 %) | 53.0 % (to 53.0 %) | 51.0 % (to 51.0 %) |"
        in text
    )
    assert text.count("| blend |") == 1
