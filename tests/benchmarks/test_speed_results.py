import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.speed.figures import growth, told, verdict
from benchmarks.speed.tables import tables
from benchmarks.speed.targets import PLAIN, RATIOS, load, slope, targets


def turn(ours: float, theirs: float, name: str, found: str = "", complete: bool = True) -> dict[str, Any]:
    return {
        "fedmend": {"scan_seconds": ours, "verdict": found or name, "memory_mib": 20},
        "neural-cleanse": {
            "seconds": theirs,
            "verdict": "clean" if complete else None,
            "complete": complete,
            "memory_mib": 30,
        },
    }


def compared(folder: Path, seconds: dict[str, list[tuple[float, float]]], **changes: Any) -> Path:
    short = {name: {"seconds": 7200, "complete": False} for name in ("tabor", "deep-inspect")}
    file = {
        dataset: {name: [turn(*pair, name, **changes) for pair in pairs] for name in ("backdoored", "clean")}
        | short
        for dataset, pairs in seconds.items()
    }
    (folder / "compare.json").write_text(json.dumps(file | {"machine": "m"}), encoding="utf-8")
    return folder


def statuses(folder: Path) -> list[str]:
    """Of the scans; start-up, the busy machine and the simulator come last."""
    return [line.status for line in targets(folder)][:-3]


def test_the_median_of_the_ratios_decides(tmp_path: Path) -> None:
    met = [(1.0, 1000.0), (1.0, 400.0), (1.0, 1.0)]
    assert statuses(compared(tmp_path, dict.fromkeys(RATIOS, met))) == ["met"] * 6
    missed = [(1.0, 1000.0), (1.0, 29.0), (1.0, 1.0)]
    assert statuses(compared(tmp_path, dict.fromkeys(RATIOS, missed))) == ["missed", "met"] * 3


def test_ratios_are_of_the_same_turn(tmp_path: Path) -> None:
    compared(tmp_path, {"mnist": [(1.0, 60.0), (10.0, 400.0), (0.1, 2.0)]})
    assert "backdoored 40 times, clean 40 times" in targets(tmp_path)[0].measured


def test_a_wrong_verdict_is_a_miss_and_what_has_not_run_is_none(tmp_path: Path) -> None:
    folder = compared(tmp_path, {"mnist": [(1.0, 100.0)]}, found="inconclusive")
    assert statuses(folder) == ["met", "missed", *["not run"] * 4]
    assert targets(folder)[1].measured == "0 of 2 (95 % interval 0 to 84 %)"


def test_what_is_extrapolated_is_marked(tmp_path: Path) -> None:
    folder = compared(tmp_path, {"mnist": [(0.25, 100.0)]})
    assert "(extrapolated)" not in targets(folder)[0].measured
    assert (
        "| 0.25 s: backdoored | 100 s: clean | 400 (400 to 400, n 1) | 20 and 30 | 7,200 s* | 7,200 s* |"
        in tables(folder)
    )
    compared(tmp_path, {"mnist": [(0.25, 100.0)]}, complete=False)
    assert "(extrapolated)" in targets(folder)[0].measured
    assert "| 100 s*: not run to a verdict |" in tables(folder)


def test_nothing_measured_yet(tmp_path: Path) -> None:
    assert statuses(tmp_path) == ["not run"] * 6
    assert tables(tmp_path).count("###") == 1


def test_the_exponent_of_a_power_law() -> None:
    assert slope([(x, 3 * x**1.5) for x in (1.0, 2.0, 7.0)]) == pytest.approx(1.5)
    assert slope([(1.0, 4.0), (2.0, 4.0), (9.0, 4.0)]) == pytest.approx(0)


def test_growth_has_a_row_and_a_panel_an_axis(tmp_path: Path) -> None:
    rows = [
        {
            "classes": value,
            "size": value,
            "width": value,
            "seconds": value / 10,
            "memory_mib": 5,
            "parameters": value**2,
        }
        for value in (10, 100)
    ]
    file = {
        "axes": dict.fromkeys(("classes", "size", "width"), rows),
        "machine": "m",
        "torch": "2",
        "repeats": 3,
    }
    (tmp_path / "growth.json").write_text(json.dumps(file), encoding="utf-8")
    text = tables(tmp_path)
    assert "| classes | 10, 100 | 1.0, 10.0 | 5, 5 | 1.00 |" in text
    assert "| model's width | 10, 100 | 1.0, 10.0 | 5, 5 | 0.50 of the parameters |" in text
    titles = [panel.get_title() for panel in growth(load("growth", tmp_path)).axes]
    assert titles == ["exponent 1.00", "exponent 1.00", "exponent 0.50"]


def engines(folder: Path, *pairs: tuple[float, float]) -> Path:
    """Turns of fedmend's and Flower's samples a second."""
    turns = [
        {
            name: {"samples_per_second_of_rounds": speed, "accuracy": 0.5}
            for name, speed in (("fedmend", ours), ("flower", theirs), (PLAIN, theirs / 2))
        }
        for ours, theirs in pairs
    ]
    file = {"mnist": {"settings": {"federation": {"rounds": 4}}, "turns": turns}, "machine": "m"}
    (folder / "engines.json").write_text(json.dumps(file), encoding="utf-8")
    return folder


def test_the_simulator_is_judged_turn_by_turn(tmp_path: Path) -> None:
    assert targets(tmp_path)[-1].status == "not run"
    line = targets(engines(tmp_path, (900.0, 300.0), (400.0, 100.0), (10.0, 10.0)))[-1]
    assert (line.status, line.measured) == ("met", "mnist 3.00 times (a plain loop's 6.00)")
    assert targets(engines(tmp_path, (299.0, 100.0)))[-1].status == "missed"
    text = tables(engines(tmp_path, (900.0, 300.0), (400.0, 100.0), (10.0, 10.0)))
    assert "| mnist, 4 rounds | fedmend | 400 | 50.0% | 3.00 (1.00 to 4.00, n 3) |" in text
    assert "| mnist, 4 rounds | flower | 100 | 50.0% | – |" in text


def started(folder: Path, seconds: float, n: int = 10) -> Path:
    """Start-ups of so long beyond importing torch, and half of it of processors."""
    summary = {"min": seconds / 2, "median": seconds}
    file = dict.fromkeys(("torch_seconds", "scan_seconds", "extra_seconds"), summary)
    machine = {"processor": "x86_64", "cores": 2, "load": 0.5}
    text = json.dumps(
        file | {"extra_processor_seconds": {"min": 0.1, "median": seconds / 2}, "n": n, "machine": machine}
    )
    (folder / "startup.json").write_text(text, encoding="utf-8")
    return folder


def test_start_up_is_judged_by_the_clock(tmp_path: Path) -> None:
    def line(folder: Path) -> tuple[str, str]:
        (found,) = (each for each in targets(folder) if "start-up" in each.name)
        return found.status, found.measured

    assert line(tmp_path) == ("not run", "not measured yet")
    assert line(started(tmp_path, 1.0)) == ("met", "median 1.00 s; of processors 0.50 s")
    assert line(started(tmp_path, 1.01)) == ("missed", "median 1.01 s; of processors 0.51 s")
    assert line(started(tmp_path, 0.5, n=3))[0] == "incomplete"
    assert "| the scan's extra time | 0.25 s | 0.50 s |" in tables(tmp_path)


@pytest.mark.parametrize(
    ("ratio", "n", "status"), [(2.0, 5, "met"), (2.1, 5, "missed"), (1.0, 2, "incomplete")]
)
def test_a_busy_machine_is_judged_by_the_threads_that_are_chosen(
    tmp_path: Path, ratio: float, n: int, status: str
) -> None:
    text = json.dumps({"n": n, "ratios": {"chosen": ratio, "one a core": 9.0}})
    (tmp_path / "threads.json").write_text(text, encoding="utf-8")
    (line,) = (each for each in targets(tmp_path) if "busy" in each.name)
    assert line.status == status
    assert line.measured == f"median {ratio:.1f} times (with a thread a core 9.0)"


def test_the_floor_is_beside_the_time(tmp_path: Path) -> None:
    row = {"operations": 5e9, "best_rate": 5e10, "floor_seconds": 0.1, "seconds": 0.45, "verdict": "clean"}
    file = {"models": {"mnist, clean": row}, "machine": "m", "torch": "2"}
    (tmp_path / "floor.json").write_text(json.dumps(file), encoding="utf-8")
    assert "| mnist, clean | 5.0 | 50 | 0.10 s | 0.45 s | 4.5 |" in tables(tmp_path)


def test_a_bar_for_each_method(tmp_path: Path) -> None:
    file = load("compare", compared(tmp_path, {"mnist": [(0.3, 100.0)], "gtsrb": [(5.0, 9000.0)]}))
    panels = verdict(file | {"cifar10": {"backdoored": []}}).axes  # begun, nothing measured yet
    assert [[bar.get_width() for bar in panel.patches] for panel in panels] == [
        [0.3, 100.0, 7200, 7200],
        [5.0, 9000.0, 7200, 7200],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.31, "0.3 s"), (42.2, "42 s"), (121, "2 min"), (7300, "2 h")]
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert told(seconds) == text


def test_a_scan_over_seeds_is_right_if_it_names_the_planted_class(tmp_path: Path) -> None:
    def line(verdict: str, planted: int | None, target: int) -> dict[str, object]:
        shown = {"verdict": verdict, "planted": planted, "target": target}
        return shown | {"reasr": 0.5, "mask_size": 12.0, "seconds": 2.0}

    planted = [
        line("backdoored", 3, 3),
        line("backdoored", 3, 4),
        line("inconclusive", 3, 3),
        line("clean", 3, 3),
    ]
    clean = [line("clean", None, 0), line("backdoored", None, 0)]
    models = {"bad": {"contrastive": planted}, "good": {"contrastive": clean}}
    file = {"world": models, "machine": "a machine", "torch": "2"}
    (tmp_path / "verdicts.json").write_text(json.dumps(file), encoding="utf-8")
    text = tables(tmp_path)
    assert "| world, bad | contrastive | 1 of 4 | 1 | 2 | 50% (50% to 50%) | 12 | 2.0 |" in text
    assert "| world, good | contrastive | 1 of 2 | 0 | 1 |" in text
