"""A report says what it was made of, is never replaced by another's unasked, and can be repeated."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import planted
from fedmend.cli import scan_command
from fedmend.data import open_images
from fedmend.detection import Case, ScanReport

Run = Callable[..., Any]
Refused = Callable[..., None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, scan_report: ScanReport) -> None:
    """Scans take no time and find nothing."""

    def scanned(case: Case, *_: object, seed: int, **__: object) -> ScanReport:
        return replace(scan_report, verdict="clean", seed=seed)

    for name in ("scan", "repair"):
        monkeypatch.setattr(f"fedmend.cli.{name}_command.run_scan", scanned)


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def words(files: Any, suspect: str, out: Path, **changes: str) -> list[str]:
    """Of a scan with a seed of its own."""
    arguments: list[str] = files.scan(suspect, out, **changes)
    place = arguments.index("--seed") if "--seed" in arguments else len(arguments)
    return [*arguments[:place], *arguments[place + 2 :], "--seed", "3", "--images", "40"]


@pytest.mark.usefixtures("quick")
def test_a_report_says_what_it_was_made_of(run: Run, files: Any, tmp_path: Path) -> None:
    arguments = words(files, files.model("clean"), tmp_path)
    run(arguments)
    made = ScanReport.load(tmp_path).provenance
    assert made is not None
    assert made.command == tuple(arguments)
    assert (made.suspect.name, made.suspect.sha256) == (files.model("clean"), sha256(files.model("clean")))
    assert made.reference is not None
    assert made.reference.sha256 == sha256(files.model("reference"))
    assert (made.architecture.name, made.architecture.module) == (planted.ARCHITECTURE, "planted")
    assert made.architecture.sha256 == sha256(planted.__file__)
    assert (made.data.source, made.data.split, made.data.images) == (files.images, "test", 120)
    assert made.data.file is not None
    assert made.data.file.sha256 == sha256(files.images)
    assert len(made.data.chosen) == 40
    images = open_images(files.images).subset(made.data.chosen)
    assert torch.bincount(images.labels).tolist() == [10, 10, 10, 10]


@pytest.mark.usefixtures("quick")
def test_the_digests_are_of_what_was_scanned(run: Run, files: Any, tmp_path: Path) -> None:
    """Another pixel, label or name, another digest."""
    with np.load(files.images) as given:
        arrays = {name: given[name] for name in given.files}
    digests = set()
    for change in (None, "images", "labels", "class_names"):
        changed = {name: value.copy() for name, value in arrays.items()}
        if change == "images":
            changed["images"] ^= 1
        elif change == "labels":
            changed["labels"][:4] = changed["labels"][:4][::-1]
        elif change == "class_names":
            changed["class_names"][0] = "north"
        source = tmp_path / f"{change}.npz"
        np.savez(source, **changed)
        out = tmp_path / str(change)
        run(words(files, files.model("clean"), out, data=str(source)))
        made = ScanReport.load(out).provenance
        assert made is not None
        digests.add((made.data.listing_sha256, made.data.chosen_sha256))
    assert len(digests) == 4


def results(folder: Path) -> dict[str, bytes]:
    """The files of the last command, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.usefixtures("quick")
def test_an_earlier_report_is_kept_beside_the_new_one(run: Run, files: Any, tmp_path: Path) -> None:
    made = []
    for number, name in enumerate(("backdoored", "clean", "clean")):
        result = run(words(files, files.model(name), tmp_path))
        told = f"The earlier results of {tmp_path} are kept in {tmp_path / f'earlier-{number}'}\n"
        assert result.err.endswith(told) == (number > 0)
        provenance = ScanReport.load(tmp_path).provenance
        assert provenance is not None
        assert provenance.suspect.name == files.model(name)
        if number == 0:
            (tmp_path / "trigger-2.safetensors").write_bytes(b"of the first scan")
        made.append(results(tmp_path))
    assert "trigger-2.safetensors" not in made[1]
    for number in (1, 2):
        assert results(tmp_path / f"earlier-{number}") == made[number - 1]


@pytest.mark.usefixtures("quick")
def test_a_file_that_is_no_report_is_kept_as_well(run: Run, files: Any, tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text("mine", encoding="utf-8")
    (tmp_path / "repair.json").write_text("{}", encoding="utf-8")
    assert run(words(files, files.model("clean"), tmp_path)).code == 0
    assert results(tmp_path / "earlier-1") == {"scan.json": b"mine", "repair.json": b"{}"}


@pytest.mark.usefixtures("quick")
def test_a_repair_keeps_an_earlier_scan(run: Run, files: Any, tmp_path: Path) -> None:
    run(words(files, files.model("backdoored"), tmp_path))
    scanned = results(tmp_path)
    assert run(files.repair(files.model("clean"), tmp_path)).code == 4
    assert results(tmp_path / "earlier-1") == scanned
    assert "repair.json" in results(tmp_path)


@pytest.mark.usefixtures("quick")
def test_an_earlier_report_can_be_given_up(run: Run, files: Any, tmp_path: Path) -> None:
    run(words(files, files.model("backdoored"), tmp_path))
    result = run([*words(files, files.model("clean"), tmp_path), "--overwrite"])
    assert "kept" not in result.err
    assert not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_bad_input_is_json_for_programs(run: Run, files: Any, tmp_path: Path) -> None:
    for arguments, said in (
        (words(files, str(tmp_path / "none.pt"), tmp_path / "out"), "there is no file"),
        (["scan", files.model("clean"), "--seed", "x"], "'x' is not a valid integer"),
        (["scan", files.model("clean")], "Missing '--model', '--data'"),
    ):
        result = run([*arguments, "--json"])
        printed = json.loads(result.out)
        assert printed.keys() == {"error", "exit"}
        assert said in printed["error"]
        assert result.code == printed["exit"] == 2
        assert result.err == f"fedmend: {printed['error']}\n"


def repeated(run: Run, report: Path, out: Path) -> Any:
    return run(["scan", "--again", str(report), "--out", str(out)])


@pytest.mark.usefixtures("short_search")
def test_a_scan_is_repeated_from_its_report(run: Run, files: Any, tmp_path: Path) -> None:
    """The same findings, from the report alone, also of a report that was itself a repetition."""
    first = run([*words(files, files.model("clean"), tmp_path / "first"), "--effort", "quick"])
    assert first.code == 0
    result = repeated(run, tmp_path / "first" / "scan.json", tmp_path / "second")
    before, after = ScanReport.load(tmp_path / "first"), ScanReport.load(tmp_path / "second")
    assert result.code == 0
    assert result.out.endswith(f"\nThe scan of {before.date} said CLEAN: the same verdict.\n")
    assert after.provenance == before.provenance
    for name in ("reason", "measures", "suspicious", "settings"):
        pairs = [repr([getattr(each, name, None) for each in report.findings]) for report in (before, after)]
        assert pairs[0] == pairs[1]
    assert (before.seed, before.num_images) == (after.seed, after.num_images) == (3, 40)
    assert repeated(run, tmp_path / "second", tmp_path / "third").code == 0


@pytest.mark.usefixtures("quick")
def test_by_default_a_repetition_has_a_folder_of_its_own(run: Run, files: Any, tmp_path: Path) -> None:
    run(words(files, files.model("clean"), tmp_path / "first"))
    result = run(["scan", "--again", str(tmp_path / "first"), "--json"])
    assert (tmp_path / "first-again" / "scan.json").is_file()
    assert json.loads(result.out) == json.loads((tmp_path / "first-again" / "scan.json").read_text())
    assert "the same verdict" in result.err


def test_another_verdict_and_other_versions_are_said(
    run: Run,
    files: Any,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    scan_report: ScanReport,
) -> None:
    run(words(files, files.model("clean"), tmp_path / "first"))
    other = replace(scan_report, verdict="backdoored", versions=scan_report.versions | {"torch": "9.9"})

    def scanned(case: Case, *_: object, seed: int, **__: object) -> ScanReport:
        return replace(other, seed=seed)

    monkeypatch.setattr(scan_command, "run_scan", scanned)
    result = repeated(run, tmp_path / "first", tmp_path / "second")
    assert result.code == 1
    assert "said CLEAN: another verdict. Other versions: torch " in result.out
    assert " -> 9.9." in result.out


@pytest.mark.parametrize("what", ["the suspect", "the reference", "the data"])
def test_what_has_changed_since_is_named(
    run: Run, refused: Refused, files: Any, tmp_path: Path, quick: None, what: str
) -> None:
    copies = {name: tmp_path / Path(files.model(name)).name for name in ("clean", "reference")}
    for name, path in copies.items():
        shutil.copy(files.model(name), path)
    shutil.copy(files.images, tmp_path / "images.npz")
    changes = {"reference": str(copies["reference"]), "data": str(tmp_path / "images.npz")}
    run(words(files, str(copies["clean"]), tmp_path / "first", **changes))
    if what == "the data":
        with np.load(files.images) as given:
            np.savez_compressed(tmp_path / "images.npz", **{name: given[name] for name in given.files})
    else:
        shutil.copy(files.model("backdoored"), copies["clean" if what == "the suspect" else "reference"])
    refused(
        ["scan", "--again", str(tmp_path / "first"), "--out", str(tmp_path / "second")],
        f"since the scan of 20.* this has changed: {what};",
    )


def test_a_repetition_takes_all_from_the_report(
    run: Run, refused: Refused, files: Any, tmp_path: Path, quick: None
) -> None:
    run(words(files, files.model("clean"), tmp_path / "first"))
    again = ["scan", "--again", str(tmp_path / "first")]
    refused([*again, "--seed", "3", "--reference", "x"], "remove --reference, --seed")
    refused([*again[:2], str(tmp_path / "none")], "can't read")
    report = ScanReport.load(tmp_path / "first")
    for provenance in (None, replace(report.provenance, command=("repair", "x"))):  # type: ignore[type-var]
        replace(report, provenance=provenance).save(tmp_path / "first")
        refused(again, "it doesn't say which fedmend scan made it")
