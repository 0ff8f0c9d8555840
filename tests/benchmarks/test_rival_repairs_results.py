import json
from pathlib import Path
from typing import Any

from benchmarks.rival_repairs.tables import tables
from benchmarks.rival_repairs.targets import MODELS, left, lost, targets


def line(method: str, number: int, after: float, accuracy: float = 0.97, **changes: Any) -> dict[str, Any]:
    """A model with 98 % accuracy and an ASR of 90 %, and what a repair reached."""
    return {
        "cell": "mnist-convnet",
        "family": f"patch-{number}",
        "name": f"dev-{number}",
        "method": method,
        "outcome": "repaired",
        "asr": {"suspect": [0.9], "reference": [0.01], "candidate": [after]},
        "accuracy": {"suspect": 0.98, "reference": 0.98, "candidate": accuracy},
        "method_seconds": 2.0,
        "commit": "0" * 12,
        "torch": "2",
        "machine": "2 cores, x86_64, 1 scans at a time",
    } | changes


def written(folder: Path, lines: list[dict[str, Any]]) -> Path:
    (folder / "dev.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return folder


def of(folder: Path, *methods: tuple[str, float, float], models: int = MODELS) -> tuple[str, str]:
    lines = [line(*each[:1], number, *each[1:]) for each in methods for number in range(models)]
    (target,) = targets(written(folder, lines))
    return target.status, target.measured


def test_without_results_nothing_is_claimed(tmp_path: Path) -> None:
    (target,) = targets(tmp_path)
    assert (target.status, target.measured) == ("not run", "not measured yet")
    assert tables(tmp_path) == "**Not measured yet.**"


def test_the_default_is_put_beside_the_best_that_keeps_the_accuracy(tmp_path: Path) -> None:
    assert of(tmp_path, ("unlearn", 0.02, 0.97), ("anp", 0.01, 0.9), ("ft-sam", 0.03, 0.97)) == (
        "met",
        "2.0%, ft-sam 3.0%",
    )
    assert of(tmp_path, ("unlearn", 0.02, 0.97), ("anp", 0.01, 0.97))[0] == "missed"
    assert of(tmp_path, ("unlearn", 0.02, 0.97), ("ft-sam", 0.03, 0.97), models=2)[0] == "incomplete"
    assert of(tmp_path, ("unlearn", 0.02, 0.5), ("ft-sam", 0.03, 0.97))[0] == "not run"


def test_only_models_that_all_have_repaired_are_compared(tmp_path: Path) -> None:
    lines = [line("unlearn", 1, 0.02), line("unlearn", 2, 0.5), line("ft-sam", 1, 0.03)]
    (target,) = targets(written(tmp_path, lines))
    assert (target.measured, target.n) == ("2.0%, ft-sam 3.0%", 1)
    (target,) = targets(written(tmp_path, lines[1:]))
    assert (target.status, target.measured) == ("not run", "not measured yet")


def test_where_nothing_was_tried_the_suspect_is_what_is_left() -> None:
    untried = line("unlearn", 1, 0.0) | {"asr": {"suspect": [0.9, 0.8]}, "accuracy": {"suspect": 0.98}}
    assert (left(untried), lost(untried)) == (0.9, 0.0)


def test_the_tables(tmp_path: Path) -> None:
    lines = [line("anp", 3, 0.5), line("anp", 8, 0.1, 0.88, outcome="failed"), line("ft-sam", 3, 0.0)]
    text = tables(written(tmp_path, lines))
    assert text.startswith("**Incomplete: 3 of 60 pairs")
    assert "| anp | 2 | 1 | 30.0 % (50.0 %) | 5.5 (10.0) | 2.0 |" in text
    assert "| anp | 90 % → 50.0 %, -1.0, repaired | 90 % → 10.0 %, -10.0, failed |" in text
    assert "| ft-sam | 90 % → 0.0 %, -1.0, repaired | – |" in text
    assert "Commit `000000000000`; torch 2; 2 cores, x86_64, one thread." in text
