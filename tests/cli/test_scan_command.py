import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import planted
from fedmend.checkpoints import read_trigger
from fedmend.cli.saving import save_results, scan_files
from fedmend.cli.scan_text import summary
from fedmend.detection import DETECTORS, Case, Differential, ScanReport, recovered
from fedmend.errors import DataError
from fedmend.evaluation import attack_success_rate
from fedmend.goals import AllToOne
from fedmend.triggers import Addition, Patch

FOUR = {"scan.json", "scan.safetensors", "trigger.safetensors", "report.html"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_backdoored_model(
    run: Callable[..., Any], files: Any, world: planted.World, tmp_path: Path
) -> None:
    result = run(files.scan(files.model("backdoored"), tmp_path))
    assert result.code == 1
    assert result.err == ""
    assert result.out.startswith("BACKDOORED. A trigger sends images of other classes to ")
    assert result.out.endswith(f"\nReport: {tmp_path / 'report.html'}\n")
    assert names(tmp_path) == FOUR
    report = ScanReport.load(tmp_path)
    assert (report.verdict, report.num_images) == ("backdoored", 120)
    assert report.findings[0].settings == json.loads(
        json.dumps(asdict(Differential()))
    )  # the default, as it is
    target = recovered(report.findings[0])
    assert target is not None
    assert target.target == planted.TARGET
    assert report.class_names == planted.NAMES
    trigger = read_trigger(tmp_path / "trigger.safetensors")
    assert isinstance(trigger, Patch)
    assert isinstance(target.trigger, Patch)
    assert torch.equal(trigger.mask, target.trigger.mask)
    unseen = world.images[120:], world.labels[120:]
    assert attack_success_rate(world.backdoored, trigger, AllToOne(planted.TARGET), *unseen) > 0.8
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "north-east" in page


def test_its_clean_twin_as_json(run: Callable[..., Any], files: Any, tmp_path: Path) -> None:
    (tmp_path / "repair.json").write_text("of another model")
    result = run([*files.scan(files.model("clean"), tmp_path), "--json", "--images", "16", "--seed", "3"])
    assert names(tmp_path) == FOUR | {"earlier-1"}
    assert (tmp_path / "earlier-1" / "repair.json").read_text() == "of another model"
    assert result.code == 0
    assert result.err.count("\n") == 1
    assert "earlier-1" in result.err
    printed = json.loads(result.out)
    assert printed == json.loads((tmp_path / "scan.json").read_text(encoding="utf-8"))
    assert (printed["verdict"], printed["num_images"], printed["seed"]) == ("clean", 16, 3)


def test_an_inconclusive_one(run: Callable[..., Any], files: Any, tmp_path: Path) -> None:
    """Labels that don't belong to the images: the reference seems to know nothing."""
    with np.load(files.images) as given:
        images, labels = given["images"], given["labels"]
    np.savez(tmp_path / "mixed.npz", images=images, labels=(labels + 1) % 4)
    result = run(files.scan(files.model("clean"), tmp_path / "out", data=str(tmp_path / "mixed.npz")))
    assert result.code == 3
    assert result.out.startswith(
        "INCONCLUSIVE. The reference gets 0% of the images right, and 100% if its classes"
    )
    assert names(tmp_path / "out") == {"scan.json", "report.html"}


@pytest.mark.usefixtures("short_search")
def test_the_same_command_twice_says_the_same(run: Callable[..., Any], files: Any, tmp_path: Path) -> None:
    arguments = files.scan(files.model("clean"), tmp_path)
    first, second = run(arguments), run(arguments)
    assert (second.code, second.out) == (first.code, first.out)
    assert (first.err, "earlier-1" in second.err) == ("", True)
    assert names(tmp_path) == FOUR | {"earlier-1"}


def test_images_and_search_are_unpredictable_unless_a_seed_is_given(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model can be trained to look clean on images that are known before; the report says which were used."""
    scanned: list[tuple[torch.Tensor, int]] = []

    def record(case: Case, *_: object, seed: int, **__: object) -> ScanReport:
        scanned.append((case.images, seed))
        raise DataError("seen")

    monkeypatch.setattr("fedmend.cli.scan_command.run_scan", record)
    arguments = [*files.scan(files.model("clean"), tmp_path), "--images", "40"]
    place = arguments.index("--seed")
    for given in (arguments[:place] + arguments[place + 2 :],) * 2 + (arguments,) * 2:
        assert run(given).err == "fedmend: seen\n"
    (one, seed_one), (two, seed_two), (fixed, seed_fixed), (again, _) = scanned
    assert seed_one != seed_two
    assert not torch.equal(one, two)
    assert (seed_fixed, torch.equal(fixed, again)) == (0, True)


def test_two_classes_need_no_option(run: Callable[..., Any], files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(80, seed=4)
    two = labels < 2
    np.savez(tmp_path / "two.npz", images=images[two].numpy(), labels=labels[two].numpy())
    for name in ("one", "two"):
        model = planted.small(2, 1, (planted.SIDE, planted.SIDE))
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    given = {"data": str(tmp_path / "two.npz"), "reference": str(tmp_path / "two.pt")}
    result = run(files.scan(str(tmp_path / "one.pt"), tmp_path / "out", **given))
    assert result.code in (0, 3), result.err
    assert json.loads((tmp_path / "out" / "scan.json").read_text())["num_images"] == 40


def test_several_methods_make_one_verdict(
    run: Callable[..., Any], files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("contrastive-paper-mnist", "contrastive-paper-gtsrb"):
        monkeypatch.setitem(DETECTORS, name, partial(DETECTORS[name], steps=20))
    arguments = files.scan(files.model("clean"), tmp_path)
    methods = ["--method", "contrastive-paper-mnist", "--method", "contrastive_paper_gtsrb"]
    result = run([*arguments, *methods, "--json"])
    printed = json.loads(result.out)
    assert (result.code, printed["verdict"]) == (0, "clean")
    assert [finding["detector"] for finding in printed["findings"]] == [
        "contrastive-paper (1)",
        "contrastive-paper (2)",
    ]
    assert [finding["settings"]["alpha"] for finding in printed["findings"]] == [0.5, 0.001]


def test_earlier_tensors_do_not_stay(run: Callable[..., Any], files: Any, tmp_path: Path) -> None:
    """A detector that recovers none."""
    for name in ("trigger.safetensors", "scan.safetensors"):
        (tmp_path / name).write_bytes(b"an earlier scan's")
    result = run([*files.scan(files.model("clean"), tmp_path), "--method", "silent_detector:make"])
    assert result.code == 0, result.err
    assert names(tmp_path) == FOUR - {"trigger.safetensors", "scan.safetensors"}


@pytest.mark.usefixtures("short_search")
def test_effort_is_the_detectors(run: Callable[..., Any], files: Any, tmp_path: Path) -> None:
    result = run([*files.scan(files.model("clean"), tmp_path), "--effort", "quick", "--json"])
    (finding,) = json.loads(result.out)["findings"]
    assert finding["settings"]["effort"] == "quick"
    assert [each["family"] for each in finding["coverage"] if each["searched"]] == [
        "patch, all-to-one",
        "in both models",
    ]


def test_effort_without_a_method_that_has_one(
    refused: Callable[..., None], files: Any, tmp_path: Path
) -> None:
    arguments = files.scan(files.model("clean"), tmp_path / "out")
    methods = ["--method", "differential", "--method", "contrastive-paper-mnist"]
    refused(
        [*arguments, *methods, "--effort", "quick"],
        "the method contrastive-paper-mnist has no such setting, so remove --effort",
    )
    refused([*arguments, "--method", "silent_detector:make", "--memory", "1GiB"], "so remove --memory")


@pytest.mark.parametrize("method", ["differential", "contrastive-paper-mnist"])
def test_memory_is_the_detectors(
    refused: Callable[..., None], files: Any, tmp_path: Path, method: str
) -> None:
    words = files.scan(files.model("backdoored"), tmp_path / "out")
    refused([*words, "--method", method, "--memory", "1KiB"], "and may take 1 MiB; .* --memory")


def test_every_trigger_has_a_file(scan_report: ScanReport, tmp_path: Path) -> None:
    """Of the most suspicious finding; an earlier scan's are kept apart."""
    (finding,) = scan_report.findings
    addition = Addition(torch.full((1, planted.SIDE, planted.SIDE), 0.1))
    first, second = finding.targets[0], replace(finding.targets[0], trigger=addition, sources=(2,))
    both = replace(finding, verdict="backdoored", targets=(first, replace(first, trigger=None), second))
    report = replace(scan_report, findings=(finding, both))
    save_results(tmp_path, scan_files(report, tmp_path))
    assert names(tmp_path) == FOUR | {"trigger-2.safetensors"}
    back = read_trigger(tmp_path / "trigger-2.safetensors")
    assert isinstance(back, Addition)
    assert torch.equal(back.delta, addition.delta)
    save_results(tmp_path, scan_files(scan_report, tmp_path))
    assert names(tmp_path) == FOUR | {"earlier-1"}
    assert names(tmp_path / "earlier-1") == FOUR | {"trigger-2.safetensors"}


def test_the_p_value_is_printed(scan_report: ScanReport) -> None:
    assert "p-value" not in summary(scan_report)
    known = replace(scan_report, findings=(replace(scan_report.findings[0], p_value=0.0312),))
    assert "\np-value: 0.031, how often an honest model would look" in summary(known)
