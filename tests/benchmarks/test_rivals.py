import json
from pathlib import Path
from typing import Any

from benchmarks.rivals.tables import tables
from benchmarks.rivals.targets import METHODS, MODELS, targets


def row(
    name: str, ratio: float, verdict: str = "backdoored", agreement: float | None = 0.875
) -> dict[str, Any]:
    flagged = [7] if verdict == "backdoored" else []
    return {
        "cell": "grey",
        "name": name,
        "targets": [7],
        "agreement": agreement,
        "ratio": ratio,
        "commit": "abc",
        "epochs": 100,
        "fedmend": {"cpu_seconds": 2.0, "verdict": verdict, "flagged": flagged},
        "other": {
            "cpu_seconds": 2.0 * ratio,
            "verdict": "backdoored",
            "flagged": [7, 8],
            "version": "trojanzoo 2.0.3",
        },
    }


def test_nothing_measured_yet(tmp_path: Path) -> None:
    lines = targets(tmp_path / "none.json")
    assert [line.status for line in lines] == ["not run"] * 3 * len(METHODS)
    assert tables(tmp_path / "none.json").count("\n") == 1


def test_the_slowest_ratio_and_each_verdict_count(tmp_path: Path) -> None:
    file = tmp_path / "oracle.json"
    rows = [row("first", 5.0), row("second", 12.0, "clean", None), *[row("more", 6.0)] * (MODELS - 2)]
    file.write_text(json.dumps({"tabor": rows, "neural-cleanse": rows[:1]}), encoding="utf-8")
    found = {line.name: (line.measured, line.status) for line in targets(file)}
    assert found["tabor: CPU time of the other library's over fedmend's"] == ("5.0 to 12.0 times", "met")
    assert found["tabor: the verdict of the other library's"] == ("3 of 4", "missed")
    assert found["neural-cleanse: CPU time of the other library's over fedmend's"][1] == "incomplete"
    assert found["tabor: rank correlation of the masks' norms"][0] == "0.88, –, 0.88, 0.88"
    text = tables(file)
    said = "| clean | 2.0 | backdoored (7, 8) | 24.0 | 12.0 | – | `abc` |"
    assert f"| tabor (trojanzoo, 100 epochs) | grey second | 7 {said}" in text
    slow = json.dumps({"tabor": [row("first", 4.9), *[row("second", 12.0)] * (MODELS - 1)]})
    file.write_text(slow, encoding="utf-8")
    assert {line.status for line in targets(file) if "CPU time" in line.name} == {"not run", "missed"}
