"""Several suspects and seeds: a folder each, one summary, the worst exit code."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmend.cli.several_scans import planned
from fedmend.detection import Case, ScanReport

Run = Callable[..., Any]
Refused = Callable[..., None]


@pytest.fixture
def rounds(files: Any, tmp_path: Path) -> Path:
    """Model files whose scans end as their names say; ``verdicts`` makes them so."""
    folder = tmp_path / "rounds"
    folder.mkdir()
    for name in ("clean", "backdoored", "reference"):
        shutil.copy(files.model(name), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch, scan_report: ScanReport, world: Any) -> list[tuple[str, int]]:
    """Scans take no time; which verdicts were given with which seed."""
    given: list[tuple[str, int]] = []

    def scanned(case: Case, *_: object, seed: int, **__: object) -> ScanReport:
        bad = torch.equal(next(case.suspect.parameters()), next(world.backdoored.parameters()))
        verdict = "backdoored" if bad else "inconclusive" if seed == 5 else "clean"
        given.append((verdict, seed))
        return replace(scan_report, verdict=verdict, seed=seed, reason=f"It is {verdict}.")

    monkeypatch.setattr("fedmend.cli.scan_command.run_scan", scanned)
    return given


def several(files: Any, out: Path, *suspects: str | Path, reference: str | None = None) -> list[str]:
    given = {} if reference is None else {"reference": reference}
    return ["scan", *map(str, suspects), *files.options(**given), "--out", str(out), "--seed", "3"]


def test_each_has_a_folder_and_the_worst_counts(
    run: Run, files: Any, tmp_path: Path, rounds: Path, verdicts: list[tuple[str, int]]
) -> None:
    out = tmp_path / "out"
    result = run(several(files, out, rounds / "clean.safetensors", rounds / "backdoored.safetensors"))
    assert result.code == 1
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines] == ["CLEAN", "BACKDOORED", "BACKDOORED", "Summary:"]
    assert "It is backdoored." in lines[1]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary["schema"], summary["verdict"], summary["exit"]) == ("fedmend-scans/1", "backdoored", 1)
    assert [row["verdict"] for row in summary["scans"]] == ["clean", "backdoored"]
    for row in summary["scans"]:
        made = ScanReport.load(out / row["folder"]).provenance
        assert made is not None
        assert (made.suspect.name, made.suspect.sha256) == (row["suspect"], row["sha256"])
    assert {path.name for path in out.iterdir()} == {"clean", "backdoored", "summary.json"}


def test_several_seeds(
    run: Run, files: Any, tmp_path: Path, rounds: Path, verdicts: list[tuple[str, int]]
) -> None:
    arguments = [*several(files, tmp_path / "out", rounds / "clean.safetensors"), "--seeds", "3", "--json"]
    result = run(arguments)
    assert verdicts == [("clean", 3), ("clean", 4), ("inconclusive", 5)]
    assert result.code == 3
    assert json.loads(result.out) == json.loads((tmp_path / "out" / "summary.json").read_text())
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {"clean-seed-3", "clean-seed-4", "clean-seed-5"}


def test_a_pattern_names_models_but_not_the_reference(
    run: Run, refused: Refused, files: Any, tmp_path: Path, rounds: Path, verdicts: list[tuple[str, int]]
) -> None:
    reference = str(rounds / "reference.safetensors")
    result = run(several(files, tmp_path / "out", rounds / "*.safetensors", reference=reference))
    assert result.code == 1
    assert [verdict for verdict, _ in verdicts] == ["backdoored", "clean"]
    (rounds / "[x].safetensors").write_bytes((rounds / "clean.safetensors").read_bytes())
    assert run(several(files, tmp_path / "x", rounds / "[x].safetensors")).code == 0
    assert (tmp_path / "x" / "scan.json").is_file()  # a file of that name comes before the pattern
    run(several(files, tmp_path / "one", rounds / "c*.safetensors"))
    assert (tmp_path / "one" / "summary.json").is_file()  # whether a pattern matches one file or more
    refused(several(files, tmp_path / "y", rounds / "*.pt"), "no file matches")


def test_files_of_one_name_have_folders_of_their_own(
    run: Run, files: Any, tmp_path: Path, rounds: Path, verdicts: list[tuple[str, int]]
) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(rounds / "backdoored.safetensors", tmp_path / "other" / "clean.safetensors")
    run(
        several(
            files, tmp_path / "out", rounds / "clean.safetensors", tmp_path / "other" / "clean.safetensors"
        )
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"1-clean", "2-clean", "summary.json"}


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("x/a.pt", "b.pt"), ["a", "b"]),
        (("x/a.pt", "y/a.pt", "1-a.pt"), ["1-a", "2-a", "3-1-a"]),
        (("a.pt", "A.pt"), ["1-a", "2-A"]),  # one folder on some disks
    ],
)
def test_each_suspect_has_a_folder_of_its_own(names: tuple[str, ...], folders: list[str]) -> None:
    scans = planned([Path(name) for name in names], 0, 1, Path("out"))
    assert [scan.folder.name for scan in scans] == folders


def test_one_that_fails_does_not_stop_the_others(
    run: Run, refused: Refused, files: Any, tmp_path: Path, rounds: Path, verdicts: list[tuple[str, int]]
) -> None:
    (rounds / "broken.pt").write_bytes(b"not a model")
    result = run(several(files, tmp_path / "out", rounds / "broken.pt", rounds / "clean.safetensors"))
    assert result.code == 2
    assert result.out.startswith("ERROR ")
    assert "damaged" in result.out.splitlines()[0]
    assert verdicts == [("clean", 3)]
    worst = run(several(files, tmp_path / "more", rounds / "broken.pt", rounds / "backdoored.safetensors"))
    assert worst.code == 1
    (rounds / "too.pt").write_bytes(b"not a model")
    refused(several(files, tmp_path / "none", rounds / "broken.pt", rounds / "too.pt"), "damaged")
    refused(several(files, tmp_path / "none", rounds / "missing.pt", rounds / "too.pt"), "missing.pt")


def test_an_earlier_summary_is_kept_unless_it_is_given_up(
    run: Run, files: Any, tmp_path: Path, rounds: Path, verdicts: list[tuple[str, int]]
) -> None:
    out = tmp_path / "out"
    both = several(files, out, rounds / "clean.safetensors", rounds / "backdoored.safetensors")
    run(both)
    before = (out / "summary.json").read_bytes()
    again = run([*both, "--json"])
    assert again.err.endswith(f"The earlier results of {out} are kept in {out / 'earlier-1'}\n")
    assert json.loads(again.out)["exit"] == again.code == 1
    assert (out / "earlier-1" / "summary.json").read_bytes() == before
    assert "kept" not in run([*both, "--overwrite"]).err
    assert not (out / "earlier-2").exists()
