import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.detection import tables
from benchmarks.detection.models import DATASETS, branches
from benchmarks.detection.targets import ATTACKED, CLEAN, of_dataset, targets
from benchmarks.detection.targets import DATASETS as AIMED
from benchmarks.results import (
    BEGIN,
    END,
    HEADLINES,
    ROOT,
    collect,
    headlines,
    judge,
    markdown,
    proportion,
    sections,
    with_section,
)

SCANNED = {
    "accuracy": 0.985,
    "reasr": 0.9,
    "lead": 3.125,
    "p_value": 0.0123,
    "found_target": 4,
    "targets": [[[], 4], [[3], 2]],
    "mask_size": 9.0,
    "scan_seconds": 6.0,
    "scan_memory_mib": 120.0,
    "commit": "0" * 40,
}
HONEST = SCANNED | {"verdict": "clean", "lead": 0.25, "p_value": None, "mask_size": None, "reasr": 0.1}
REPAIRED = SCANNED | {
    "verdict": "backdoored",
    "target": 4,
    "asr": 0.99,
    "mask_iou": 0.5,
    "reference_asr": 0.02,
    "outcome": "repaired",
    "repaired_accuracy": 0.98,
    "repaired_asr": 0.01,
    "triggers": 1,
    "passes": 1,
    "repair_seconds": 30.0,
}
FAILED = {"outcome": "failed", "repaired_accuracy": None, "repaired_asr": None}
ORIGIN = {"commit": "0" * 40, "torch": "2", "python": "3", "machine": "2 cores", "seed": 0}

Models = dict[str, dict[str, Any]]


@pytest.fixture
def models() -> Models:
    return {name: dict(REPAIRED) for name in ATTACKED} | {name: dict(HONEST) for name in CLEAN}


def statuses(models: Models) -> dict[str, str]:
    return {line.name.removeprefix("mnist, "): line.status for line in of_dataset("mnist", models)}


def measured(models: Models, name: str) -> str:
    return next(line.measured for line in of_dataset("mnist", models) if line.name == f"mnist, {name}")


def test_all_met(models: Models) -> None:
    assert statuses(models) == {
        "planted ASR": "met",
        "verdicts right": "met",
        "target class named": "no target",
        "ASR after repair": "met",
        "ASR in the clean reference": "no target",
        "accuracy lost by repair": "met",
        "time per scan": "met",
        "memory per scan beyond the models": "met",
    }
    assert measured(models, "verdicts right") == "12 of 12 (95 % interval 74 to 100 %)"
    assert measured(models, "target class named") == "6 of 6 (95 % interval 54 to 100 %)"


@pytest.mark.parametrize(
    ("name", "change", "missed"),
    [
        ("sba-one", {"asr": 0.9499}, {"planted ASR"}),
        ("sba-h", {"asr": float("nan")}, {"planted ASR"}),
        ("dba-h", {"verdict": "inconclusive"}, {"verdicts right"}),
        ("dba-h", {"verdict": "clean"}, {"verdicts right"}),
        ("clean-5", {"verdict": "backdoored"}, {"verdicts right"}),
        ("clean-5", {"verdict": "inconclusive"}, {"verdicts right"}),
        ("sba-plus", {"repaired_asr": 0.0501}, {"ASR after repair"}),
        ("sba-plus", {"repaired_accuracy": 0.9749}, {"accuracy lost by repair"}),
        ("dba-one", FAILED, {"ASR after repair", "accuracy lost by repair"}),
        ("clean-0", {"scan_seconds": 10.1}, {"time per scan"}),
        ("clean-0", {"scan_memory_mib": 1024.1}, {"memory per scan beyond the models"}),
        ("dba-h", {"scan_memory_mib": None}, {"memory per scan beyond the models"}),
    ],
)
def test_one_model_is_enough_for_a_miss(
    models: Models, name: str, change: dict[str, Any], missed: set[str]
) -> None:
    models[name] |= change
    assert {target for target, status in statuses(models).items() if status == "missed"} == missed


def test_a_model_that_was_not_repaired_keeps_its_asr(models: Models) -> None:
    models["dba-one"] |= FAILED
    assert measured(models, "ASR after repair") == "max 99.00 %, mean 17.33 ± 40.01 % (1 of 6 not repaired)"
    assert (
        measured(models, "accuracy lost by repair")
        == "max 0.50, mean 0.50 ± 0.00 points (1 of 6 not repaired)"
    )
    for name in ATTACKED:
        models[name] |= FAILED
    assert measured(models, "accuracy lost by repair") == "none repaired"


@pytest.mark.parametrize("gone", [ATTACKED[0], CLEAN[0]])
def test_fewer_models_than_planned_meet_nothing_that_concerns_all(models: Models, gone: str) -> None:
    del models[gone]
    found = statuses(models)
    assert found["verdicts right"] == found["time per scan"] == "incomplete"
    assert found["ASR after repair"] == ("incomplete" if gone in ATTACKED else "met")


def test_a_model_that_nobody_planned_fills_no_gap(models: Models) -> None:
    models["clean-6"] = models.pop("clean-5")
    assert statuses(models)["verdicts right"] == "incomplete"


def test_without_results_files_nothing_was_run(tmp_path: Path) -> None:
    lines = targets(tmp_path)
    assert {line.status for line in lines} == {"not run", "no target"}
    assert {line.measured for line in lines} == {"not measured yet"}
    assert "0 of 12 models" in tables.tables(tmp_path)


def test_judge() -> None:
    assert judge(True, 3, 3) == "met"
    assert judge(False, 3, 3) == judge(False, 1, 3) == "missed"
    assert judge(True, 2, 3) == "incomplete"
    assert judge(True, 0, 3) == judge(False, 0, 3) == "not run"


def test_the_planned_models_are_those_that_are_trained() -> None:
    assert AIMED == DATASETS
    for dataset in DATASETS:
        assert {job.name for job in branches(dataset, Path())} == set(ATTACKED + CLEAN)


def test_tables_show_misses_and_gaps(models: Models, tmp_path: Path) -> None:
    models["dba-one"] |= FAILED | {"verdict": "clean"}
    del models["clean-3"]
    for dataset in DATASETS:
        (tmp_path / f"{dataset}.json").write_text(json.dumps(ORIGIN | {"models": models}))
    text = tables.tables(tmp_path)
    assert "**Incomplete: 11 of 12 models have a result.**" in text
    assert (
        "| dba-one | 99.00 % | clean | **no** | 4, right, 1 more | 90.00 % | 3.12 | 0.012 | 9.0 | 0.50 |"
        in text
    )
    assert "| clean-0 | – | clean | yes | – | 10.00 % | 0.25 | – | – | – |" in text
    assert "| dba-one | **failed** | 99.00 % | – | 2.00 % | 98.50 % | – |" in text
    assert "| clean-3 | **not run** |" in text
    assert "| attacked models found | 3 of 3 | 2 of 3 | 100 % | 100 % |" in text
    for block in text.split("\n\n"):
        assert not block.startswith("|") or len({row.count("|") for row in block.splitlines()}) == 1


def test_with_section() -> None:
    assert with_section(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb\n"
    for text in ("", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(ValueError, match="no section"):
            with_section(text, "new")


def test_markdown() -> None:
    assert markdown([("a", "b"), ("1", "2")], right=" r") == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def test_pages_are_what_the_results_files_give() -> None:
    pages = {path: (body, path.read_text(encoding="utf-8")) for path, body in sections().items()}
    old = [path for path, (body, text) in pages.items() if with_section(text, body) != text]
    assert old == [], "make results ARGS=--write"


def test_headlines_are_targets_as_they_are_and_show_a_miss() -> None:
    found = headlines(collect())
    assert len(found) == len(HEADLINES)
    assert set(found) <= set(collect())
    assert "missed" in {each.status for each in found}


def test_the_script_finds_its_package() -> None:
    """Also where ``benchmarks`` isn't installed."""
    script = [sys.executable, str(ROOT / "benchmarks" / "results.py"), "--help"]
    assert subprocess.run(script, capture_output=True, text=True, check=True).stdout.startswith("usage: ")


def test_the_script_prints_a_line_a_target_and_the_same_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = []
    for options in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["results.py", *options])
        runpy.run_path(str(ROOT / "benchmarks" / "results.py"), run_name="__main__")
        printed.append(capsys.readouterr().out)
    lines, records = printed[0].splitlines(), json.loads(printed[1])
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        assert line.startswith(f"{record['benchmark']}: {record['name']}")
        assert record["measured"] in line
        assert line.endswith(record["status"])


def test_exact_intervals_of_a_rate() -> None:
    """Clopper and Pearson for 12 of 12 have the closed form 0.025 ** (1 / 12) = 73.5 %; for 5 of 10 see any table."""
    assert proportion(12, 12) == "12 of 12 (95 % interval 74 to 100 %)"
    assert proportion(0, 12) == "0 of 12 (95 % interval 0 to 26 %)"
    assert proportion(5, 10) == "5 of 10 (95 % interval 19 to 81 %)"
    assert proportion(0, 0) == "0 of 0"
