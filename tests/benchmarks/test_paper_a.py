import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.paper_a import federations, readings_table, run, study_tables
from benchmarks.paper_a.lines import above, asr_after, calibrated, rate
from benchmarks.paper_a.scales import SCALES
from benchmarks.paper_a.tables import pictures, tables
from benchmarks.paper_a.targets import targets


def line(name: str, method: str, **changes: Any) -> dict[str, Any]:
    kind = name.split("-")[0]
    attacked = kind != "clean"
    made = {
        "scale": "mnist-short",
        "name": name,
        "study": kind,
        "kind": kind,
        "method": method,
        "level": None,
        "target": 4 if attacked else None,
        "verdict": "backdoored" if attacked else "clean",
        "found": [4] if attacked else [],
        "suspicious": 3.0,
        "measures": {"mse": 100.0 if attacked else 1.0, "reasr": 0.95 if attacked else 0.1},
        "seconds": 4.0,
        "cpu_seconds": 2.0,
        "asr": 0.99 if attacked else None,
        "accuracy": 0.985,
        "reference_asr": 0.01 if attacked else None,
        "reference_accuracy": 0.98,
        "commit": "0" * 40,
    }
    if attacked:
        made["repair"] = {"released": True, "asr": 0.005, "accuracy": 0.984}
    return made | changes


def write(folder: Path, lines: list[dict[str, Any]], name: str = "mnist-short.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return folder


def statuses(folder: Path) -> dict[str, str]:
    return {each.name.removeprefix("mnist-short, "): each.status for each in targets(folder)}


@pytest.mark.parametrize("name", SCALES)
def test_a_cell_has_thirty_models_of_each_kind(name: str) -> None:
    scale = SCALES[name]
    made = federations.branches(scale, Path("runs"))
    assert len({each.name for each in made}) == len(made)
    counts = {kind: sum(each.study == kind for each in made) for kind in ("sba", "dba", "clean")}
    assert counts == {"sba": 30, "dba": 30, "clean": 30}
    assert len({each.config.seed for each in made}) == len(made)
    for each in made:
        assert each.backdoored == ("clean" not in each.name)
        assert each.trunk in federations.trunks(scale, Path("runs"))


def test_an_attack_begins_after_its_trunk_and_as_the_paper_says() -> None:
    full = {each.name: each.config for each in federations.branches(SCALES["mnist"], Path("runs"))}
    assert [full[name].federation.rounds for name in ("sba-one-0", "50-0", "100-0")] == [60, 150, 250]
    assert [full[name].attack[0].first_round for name in ("sba-one-0", "50-0", "100-0")] == [21, 57, 94]
    assert full["100-0"].federation.clients_per_round == 30
    assert full["dirichlet-0.1-0"].data.alpha == 0.1
    assert full["from-start-0"].attack[0].first_round == 1
    assert full["from-start-0"].model.start is None


def test_the_first_jobs_are_the_paper_s_method_and_ours_on_each_kind() -> None:
    jobs = list(run.jobs(SCALES["mnist-short"]))
    assert len({job.key for job in jobs}) == len(jobs)
    first = [job.key[:2] for job in jobs[:9]]
    assert first == [
        (name, method)
        for name in ("sba-one-0", "dba-one-0", "clean-0")
        for method in ("contrastive-paper", "mean-reading", "fedmend")
    ]
    assert {run.study_of(job) for job in jobs} == set(run.STUDIES)


def test_what_has_a_line_is_done(tmp_path: Path) -> None:
    assert run.done(tmp_path / "none.jsonl") == set()
    write(tmp_path, [line("sba-one-0", "fedmend"), line("sba-one-0", "fedmend", level=0.4)])
    assert run.done(tmp_path / "mnist-short.jsonl") == {
        ("sba-one-0", "fedmend", None),
        ("sba-one-0", "fedmend", 0.4),
    }


def test_nothing_measured(tmp_path: Path) -> None:
    assert {each.status for each in targets(tmp_path)} == {"not run"}
    assert tables(tmp_path).count("**Not run.**") == 2 + len(SCALES)


@pytest.mark.parametrize(
    ("name", "changes", "missed"),
    [
        ("sba-one-0", {}, set()),
        ("sba-one-0", {"verdict": "clean"}, {"SBA called backdoored"}),
        ("clean-0", {"verdict": "backdoored"}, {"honest models called backdoored"}),
        (
            "dba-one-0",
            {"repair": {"released": True, "asr": 0.0101, "accuracy": 0.984}},
            {"DBA, ASR after repair"},
        ),
        (
            "dba-one-0",
            {"repair": {"released": False}},
            {"DBA, ASR after repair", "accuracy lost by repair"},
        ),
        (
            "sba-one-0",
            {"repair": {"released": True, "asr": 0.0, "accuracy": 0.9819}},
            {"accuracy lost by repair"},
        ),
    ],
)
def test_one_model_is_enough_for_a_miss(
    tmp_path: Path, name: str, changes: dict[str, Any], missed: set[str]
) -> None:
    lines = [line(each, "fedmend") for each in ("sba-one-0", "dba-one-0", "clean-0") if each != name]
    write(tmp_path, [*lines, line(name, "fedmend", **changes)])
    found = statuses(tmp_path)
    assert {target for target, status in found.items() if status == "missed"} == missed
    assert found["white squares up to 12x12, ASR after repair"] == "not run"


def test_an_unreleased_model_keeps_its_asr() -> None:
    assert asr_after(line("sba-one-0", "fedmend")) == pytest.approx(0.5)
    assert asr_after(line("sba-one-0", "fedmend", repair={"released": False})) == pytest.approx(99)
    assert asr_after(line("sba-one-0", "tabor", repair=None)) == pytest.approx(99)


def test_rates_have_exact_intervals() -> None:
    assert rate(30, 30) == "30/30 (88 to 100 %)"
    assert rate(0, 0) == "–"


def test_calibrated_thresholds_lie_above_every_clean_model() -> None:
    clean = [
        line("clean-0", "contrastive-paper", measures={"mse": mse, "reasr": reasr})
        for mse, reasr in ((2.0, 0.3), (40.0, 0.1))
    ]
    assert calibrated(clean) == (40.0, 0.3)
    assert above(clean, *calibrated(clean)) == 0
    attacked = [line("sba-one-0", "contrastive-paper", measures={"mse": 41.0, "reasr": 0.31})]
    assert above(attacked, 40.0, 0.3) == 1
    assert above(attacked, 41.0, 0.3) == above(attacked, 40.0, 0.31) == 0


def test_tables_show_each_part(tmp_path: Path) -> None:
    lines = [
        line(name, method)
        for name in ("sba-one-0", "dba-one-0", "clean-0", "clean-1", "clean-2", "clean-3")
        for method in ("contrastive-paper", "fedmend")
    ]
    lines += [
        line("sba-one-0", "fedmend", level=0.4, verdict="inconclusive"),
        line("size-8-0", "fedmend", study="size"),
        line("50-0", "fedmend", study="clients", kind="sba"),
        line("k-label-0", "fedmend", study="partition", kind="sba"),
        line("clean-k-label-0", "fedmend", study="partition", kind="clean"),
    ]
    text = tables(write(tmp_path, lines))
    assert "**Incomplete**: 1 of 30 sba, 1 of 30 dba, 4 of 30 clean" in text
    assert (
        "| the paper's, as written | 100 % | 1/1 (3 to 100 %) | 100 % | 1/1 (3 to 100 %) | 0/4 (0 to 60 %) | 2/2 |"
        in text
    )
    assert "| 98.0 | – | 1 inconclusive | – | – |" in text
    assert "| 8x8 | 99.00 | fails |" in text
    assert "| 50 | 99.00 | about 2 % |" in text
    assert "| clean-k-label | – |" in text
    assert "| 10 and 80 % | 2/2" in text
    for block in text.split("\n\n"):
        assert not block.startswith("|") or len({row.count("|") for row in block.splitlines()}) == 1


def test_thresholds_need_clean_models_to_calibrate_on() -> None:
    assert study_tables.thresholds([line(f"clean-{index}", "contrastive-paper") for index in range(3)]) == ""


def test_readings_are_told_apart(tmp_path: Path) -> None:
    common = {"cell": "mnist-convnet", "commit": "0" * 40, "size": 8.0}
    lines = [
        common
        | {"reading": "plain", "name": "a", "kind": "backdoored", "target": 3, "found": 3}
        | {"mse": 100.0, "reasr": 0.9, "iou": 0.5},
        common
        | {"reading": "plain", "name": "b", "kind": "backdoored", "target": 3, "found": 2}
        | {"mse": 10.0, "reasr": 0.9, "iou": None},
        common
        | {"reading": "plain", "name": "c", "kind": "clean", "target": None, "found": 2}
        | {"mse": 11.0, "reasr": 0.81, "iou": None},
    ]
    text = readings_table.tables(write(tmp_path, lines, "readings.jsonl"))
    assert "| plain | 1/2 | 1/2 | 55.0 | 90 % | 8.0 | 0.50 | 1/1 | 11.0 | 81 % | 8.0 |" in text


def test_pictures_are_shown_once_they_are_drawn() -> None:
    drawn, missing = (pictures(SCALES[name]) for name in ("mnist-short", "mnist"))
    assert [text.rpartition("(")[2] for text in drawn] == [
        "figures/figure-2-mnist-short.svg)",
        "figures/figure-3-mnist-short.svg)",
    ]
    assert missing == []
