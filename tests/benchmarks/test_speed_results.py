import json
from pathlib import Path

import pytest
from benchmarks.speed.figures import growth
from benchmarks.speed.tables import tables
from benchmarks.speed.targets import PLAIN, load, slope, targets


def test_nothing_measured_yet(tmp_path: Path) -> None:
    assert [line.status for line in targets(tmp_path)] == ["not run"] * 4
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
    """Start-ups of so long."""
    summary = {"min": seconds / 2, "median": seconds}
    keys = ("torch_seconds", "scan_seconds", "report_seconds", "extra_seconds")
    machine = {"processor": "x86_64", "cores": 2, "load": 0.5}
    text = json.dumps(dict.fromkeys(keys, summary) | {"n": n, "machine": machine})
    (folder / "startup.json").write_text(text, encoding="utf-8")
    return folder


def test_start_up_is_judged_by_the_median(tmp_path: Path) -> None:
    def line(folder: Path) -> tuple[str, str]:
        (found,) = (each for each in targets(folder) if "start-up" in each.name)
        return found.status, found.measured

    assert line(tmp_path) == ("not run", "not measured yet")
    assert line(started(tmp_path, 1.0)) == ("met", "median 1.00 s")
    assert line(started(tmp_path, 1.01)) == ("missed", "median 1.01 s")
    assert line(started(tmp_path, 0.5, n=3))[0] == "incomplete"
    assert "| start-up | 0.25 s | 0.50 s |" in tables(tmp_path)


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


@pytest.mark.parametrize(
    ("seconds", "gib", "status"), [(600, 6, "met"), (601, 2, "missed"), (60, 6.1, "missed")]
)
def test_scans_of_large_networks_are_judged_by_time_and_memory(
    tmp_path: Path, seconds: float, gib: float, status: str
) -> None:
    lines = {
        name: {"seconds": each, "peak_gib": gib} for name, each in (("resnet50", 100), ("vit-b-16", seconds))
    }
    (tmp_path / "large.json").write_text(json.dumps(lines), encoding="utf-8")
    (line,) = (each for each in targets(tmp_path) if "224x224" in each.name)
    assert line.status == status
    assert line.measured == f"ResNet-50 100 s, {gib:.1f} GiB; ViT-B/16 {seconds} s, {gib:.1f} GiB"
