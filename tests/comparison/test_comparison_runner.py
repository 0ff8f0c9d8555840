import json
from pathlib import Path
from typing import Any

import pytest
import tiny_federation

from fedmend.comparison import (
    ComparisonFolder,
    Results,
    Running,
    cell_runs,
    cells_of,
    compare,
    plan_from_tables,
    rows_of,
)
from fedmend.comparison.comparison_tables import cell_lines
from fedmend.errors import ConfigError, DataError, OutputError
from fedmend.federation import RunFolder
from fedmend.federation.measuring_rounds import RoundRecords

DEFENCES = {"nothing": {}, "guard": {"guard": tiny_federation.GUARD}}


class Stopped(Exception):
    """What a test raises to stop a comparison."""


def timeless(results: Results) -> dict[str, Any]:
    return {key: (each.ended, each.rounds, each.accuracy, each.released_asr) for key, each in results.items()}


def test_attack_guard_and_honest(tables: Any, tmp_path: Path) -> None:
    plan = plan_from_tables(tables(defence=DEFENCES))
    seen: list[int] = []
    results = compare(plan, tmp_path, Running(on_result=lambda so_far: seen.append(len(so_far))))
    assert seen == [1, 2, 3]
    nothing, guard = rows_of(cells_of(plan), results, plan.limits)
    assert nothing.released_asr is not None
    assert nothing.released_asr.mean > 0.8
    assert "released ASR" in nothing.misses
    assert guard.released_asr is not None
    assert guard.released_asr.mean < 0.3
    assert [each.decision for each in guard.runs[0].result.rounds] == [None, "accept", "rollback"]
    assert guard.runs[0].result.rounds[2].candidate_asr == nothing.runs[0].result.rounds[2].asr
    honest = guard.runs[0].honest
    assert honest is not None
    assert honest == nothing.runs[0].honest
    assert guard.runs[0].accuracy_lost == pytest.approx(honest.accuracy - guard.runs[0].result.accuracy)
    checkpoints = [len(list(run.glob("checkpoints/round-*"))) for run in (tmp_path / "runs").iterdir()]
    assert checkpoints == [1, 1, 1]


def test_a_stopped_comparison_goes_on(tables: Any, tmp_path: Path) -> None:
    plan = plan_from_tables(tables(defence=DEFENCES, honest=False))
    whole = compare(plan, tmp_path / "whole")

    def stop(so_far: Results) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        compare(plan, tmp_path / "parts", Running(on_result=stop))
    with pytest.raises(ConfigError, match="already holds a comparison"):
        compare(plan, tmp_path / "parts")
    first = next((tmp_path / "parts" / "runs").glob("nothing*"))
    before = (first / "cell.json").stat().st_mtime_ns
    (first / "rounds.jsonl").unlink()  # a complete cell isn't looked at again
    assert timeless(compare(plan, tmp_path / "parts", resume=True)) == timeless(whole)
    assert (first / "cell.json").stat().st_mtime_ns == before


def test_a_federation_that_was_killed_goes_on_after_its_last_round(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_from_tables(tables(defence={"nothing": {}}, honest=False))
    whole = compare(plan, tmp_path / "whole")

    def kill(records: RoundRecords, number: int, *rest: Any) -> None:
        if number == 2:
            raise Stopped
        append(records, number, *rest)

    append = RoundRecords.append
    monkeypatch.setattr(RoundRecords, "append", kill)
    with pytest.raises(Stopped):
        compare(plan, tmp_path / "parts")
    (folder,) = (tmp_path / "parts" / "runs").iterdir()
    before = RunFolder(folder).records()[:2]
    monkeypatch.undo()
    assert timeless(compare(plan, tmp_path / "parts", resume=True)) == timeless(whole)
    assert RunFolder(folder).records()[:2] == before


def test_a_federation_that_its_guard_stopped_is_not_trained_further(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its result was written."""
    stopping = {"stopping": {"guard": tiny_federation.GUARD | {"stop_after": 1}}}
    base = tables(defence=stopping, honest=False)
    base["federation"] = base["federation"] | {"rounds": 4}
    plan = plan_from_tables(base)
    whole = compare(plan, tmp_path / "whole")
    assert [[each.round for each in result.rounds] for result in whole.values()] == [[0, 1, 2]]

    def kill(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(cell_runs, "save_result", kill)
        with pytest.raises(Stopped):
            compare(plan, tmp_path / "parts")
    assert timeless(compare(plan, tmp_path / "parts", resume=True)) == timeless(whole)


def test_more_seeds_and_variants_may_be_added(tables: Any, tmp_path: Path) -> None:
    few = plan_from_tables(tables(seeds=[0], defence={"nothing": {}}, honest=False))
    compare(few, tmp_path)
    more = tables(seeds=[0, 1], defence=DEFENCES, honest=False, limits={"released_asr": 0.1})
    assert len(compare(plan_from_tables(more), tmp_path, resume=True)) == 4


def test_complete_cells_are_not_run_again_in_another_order_or_under_another_name(
    tables: Any, tmp_path: Path
) -> None:
    attacks = {"planted": {}, "none": {"attack": []}}
    before = compare(plan_from_tables(tables(attack={"planted": {}}, defence={"nothing": {}})), tmp_path)
    after = plan_from_tables(tables(defence={"nothing": {}}, attack=attacks))
    assert compare(after, tmp_path, resume=True) == before
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_cells_with_the_same_settings_name_the_one_folder(tables: Any, tmp_path: Path) -> None:
    plan = plan_from_tables(tables(attack={"one": {}, "other": {}}, honest=False))
    lines = cell_lines(rows_of(cells_of(plan), compare(plan, tmp_path), plan.limits))
    assert [line["folder"] for line in lines] == [run.name for run in (tmp_path / "runs").iterdir()] * 2


def test_a_comparison_that_another_process_runs_keeps_its_plan(tables: Any, tmp_path: Path) -> None:
    compare(plan_from_tables(tables(defence={"nothing": {}}, honest=False)), tmp_path)
    before = (tmp_path / "plan.json").read_bytes()
    more = plan_from_tables(tables(defence=DEFENCES, honest=False))
    with (
        ComparisonFolder(tmp_path).locked(),
        pytest.raises(OutputError, match="another fedmend is comparing"),
    ):
        compare(more, tmp_path, resume=True)
    assert (tmp_path / "plan.json").read_bytes() == before


@pytest.mark.parametrize(
    ("base", "sweep", "message"),
    [
        pytest.param({"seed": 1}, {"defence": {"nothing": {}}}, "compare.seeds lacks 0", id="seed"),
        pytest.param({"training": {"lr": 0.2, "epochs": 2}}, {}, "lr was 0.05, now 0.2", id="base"),
        pytest.param({}, {"defence": {"guard": {}}}, "compare.defence.nothing is missing", id="variant"),
        pytest.param(
            {},
            {"defence": {"nothing": {"training": {"lr": 0.3}}}},
            r"compare.defence.nothing.training is new",
            id="variants-settings",
        ),
        pytest.param({}, {"defence": {"nothing": {}}, "more": {"x": {}}}, "compare.more is new", id="axis"),
        pytest.param({}, {}, "compare.defence is missing", id="no-axis"),
    ],
)
def test_another_plan_is_refused_by_name(
    tables: Any, tmp_path: Path, base: dict[str, Any], sweep: dict[str, Any], message: str
) -> None:
    compare(plan_from_tables(tables(defence={"nothing": {}}, honest=False)), tmp_path)
    before = (tmp_path / "plan.json").read_bytes()
    with pytest.raises(ConfigError, match=message):
        compare(plan_from_tables(tables(**sweep, honest=False) | base), tmp_path, resume=True)
    assert (tmp_path / "plan.json").read_bytes() == before


def test_a_damaged_plan(tables: Any, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"plan.json was damaged"):
        compare(plan_from_tables(tables(defence=DEFENCES)), tmp_path, resume=True)


def test_a_diverged_federation_is_a_result_and_a_failed_one_is_tried_again(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = {
        "diverged": {"training": {"lr": 1e38}},
        "failed": {"attack": {"1": {"trigger": {"top": 7}}}},
        "fine": {},
    }
    plan = plan_from_tables(tables(variant=variants, honest=False))
    results = compare(plan, tmp_path)
    assert sorted(each.ended for each in results.values()) == ["complete", "diverged", "failed"]
    rows = {row.choices["variant"]: row for row in rows_of(cells_of(plan), results, plan.limits)}
    assert rows["diverged"].misses == ("diverged",)
    assert "box of 3x3" in str(rows["failed"].runs[0].result.error)
    kept = {run.name.partition("-")[0]: (run / "cell.json").exists() for run in (tmp_path / "runs").iterdir()}
    assert kept == {"diverged": True, "fine": True} | ({"failed": False} if "failed" in kept else {})


def test_votes_repair_the_last_model(tables: Any, tmp_path: Path) -> None:
    votes = {"fine_tuning_rounds": 0, "validation_images": 20, "held_out_images": 10}
    plan = plan_from_tables(
        tables(defence={"votes": {"votes": votes, "model": {"architecture": "convnet"}}}, honest=False)
    )
    (result,) = compare(plan, tmp_path).values()
    assert result.repair in ("unverified", "failed")
    assert (result.accuracy is None) is (result.repair == "failed")
    too_many = {"votes": votes | {"validation_images": 75}, "model": {"architecture": "convnet"}}
    (result,) = compare(
        plan_from_tables(tables(defence={"votes": too_many}, honest=False)), tmp_path / "2"
    ).values()
    assert "more than the server's 80 images" in str(result.error)


@pytest.mark.slow
def test_two_processes_give_the_same_results(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(tiny_federation.__file__).parent)
    plan = plan_from_tables(tables(defence=DEFENCES))
    alone, beside = compare(plan, tmp_path / "1"), compare(plan, tmp_path / "2", Running(workers=2))
    assert timeless(alone) == timeless({key: beside[key] for key in alone})


def test_a_cell_is_a_run_that_can_be_repeated(tables: Any, tmp_path: Path) -> None:
    compare(plan_from_tables(tables(defence={"nothing": {}}, honest=False)), tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    run = RunFolder(folder)
    run.check()
    assert [record.round for record in run.records()] == [0, 1, 2]
    assert json.loads((folder / "cell.json").read_text(encoding="utf-8"))["ended"] == "complete"
