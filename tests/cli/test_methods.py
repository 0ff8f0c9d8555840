"""``--method``: several, all of them, and those that a scan without a reference can use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planted
from fedmend.cli.method_choice import chosen_detectors
from fedmend.detection import (
    ArtificialBrainStimulation,
    Case,
    DetectorChoice,
    Differential,
    Finding,
    LeftOut,
    MaximumMargin,
    Need,
    ScanReport,
    Target,
    scan,
)
from fedmend.detection.search.neuron_triggers import NeuronTriggers
from fedmend.errors import ConfigError

Run = Callable[..., Any]
ALONE = frozenset({Need.REFERENCE})
QUICK = {
    "abs": ArtificialBrainStimulation(search=NeuronTriggers(steps=2)),
    "mm-bd": MaximumMargin(restarts=2, steps=3),
}


def without_reference(arguments: list[str]) -> list[str]:
    place = arguments.index("--reference")
    return arguments[:place] + arguments[place + 2 :]


class Says:
    """A method that says what it is told to."""

    needs: frozenset[Need] = frozenset()

    def __init__(self, verdict: Any, target: int | None = None) -> None:
        self.verdict, self.target = verdict, target

    def __call__(self, case: Case, rng: object, progress: object) -> Finding:
        targets = () if self.target is None else (Target(self.target, 0.9),)
        return Finding("says", self.verdict, f"It says {self.verdict}.", 2.0, 1.0, targets=targets)


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three methods that take no time and disagree; one needs a reference."""

    def every(lacks: frozenset[Need]) -> DetectorChoice:
        made: dict[str, Any] = {
            "first": Says("clean"),
            "second": Says("backdoored", 2),
            "third": Says("clean"),
        }
        return DetectorChoice(made, (LeftOut("fourth", "needs a clean reference model"),) if lacks else ())

    monkeypatch.setattr("fedmend.cli.method_choice.all_detectors", every)
    monkeypatch.setattr(
        "fedmend.cli.method_choice.chosen_detector", lambda name, *_: every(ALONE).detectors[name]
    )


def test_the_default_is_that_of_the_case() -> None:
    quick = Differential(effort="quick")
    assert chosen_detectors((), frozenset(), "quick", None) == DetectorChoice({"differential": quick})
    alone = chosen_detectors((), ALONE, None, 2**20)
    assert isinstance(alone, DetectorChoice)
    assert list(alone.detectors) == ["abs", "mm-bd"]
    assert alone.detectors["mm-bd"] == MaximumMargin(memory=2**20)
    with pytest.raises(ConfigError, match="the method abs has no such setting, so remove --effort"):
        chosen_detectors((), ALONE, "quick", None)


def test_all_takes_settings_where_they_fit_and_own_methods_too() -> None:
    found = chosen_detectors(("all", "silent_detector:make"), frozenset(), "quick", 2**20)
    assert isinstance(found, DetectorChoice)
    assert found.detectors["differential"] == Differential(effort="quick", memory=2**20)
    assert found.detectors["mm-bd"] == MaximumMargin(memory=2**20)
    assert list(found.detectors)[-1] == "silent_detector:make"
    assert found.left_out == ()


@pytest.mark.usefixtures("methods")
def test_all_shows_where_methods_disagree(run: Run, files: Any, tmp_path: Path) -> None:
    result = run([*without_reference(files.scan(files.model("clean"), tmp_path)), "--method", "all"])
    assert (result.code, result.err) == (1, "")
    lines = result.out.splitlines()
    assert lines[0] == "BACKDOORED. second: It says backdoored."
    assert [re.split(r"  +", line) for line in lines[1:4]] == [
        ["first", "CLEAN", "2 (limit 1)"],
        ["second", "BACKDOORED", "2 (limit 1)", planted.NAMES[2]],
        ["third", "CLEAN", "2 (limit 1)"],
    ]
    assert lines[4].startswith("The 3 methods disagree: 1 backdoored (second), 2 clean (first, third).")
    assert lines[5] == "Left out: fourth (needs a clean reference model)."
    assert lines[6].startswith("No reference was given")
    report = json.loads((tmp_path / "scan.json").read_text(encoding="utf-8"))
    assert report["agreement"]["unanimous"] is False
    assert report["agreement"]["verdicts"] == {"backdoored": ["second"], "clean": ["first", "third"]}
    assert report["agreement"]["targets"] == {"2": ["second"]}
    assert report["left_out"] == [{"method": "fourth", "reason": "needs a clean reference model"}]
    assert report["scope"] == lines[6]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for told in ("The 3 methods disagree", "<b>Left out:</b> fourth", "No reference was given"):
        assert told in page


@pytest.mark.usefixtures("methods")
def test_with_a_reference_nothing_is_said_of_its_lack(run: Run, files: Any, tmp_path: Path) -> None:
    result = run([*files.scan(files.model("clean"), tmp_path), "--method", "all"])
    assert "Left out" not in result.out
    assert "No reference" not in result.out
    assert json.loads((tmp_path / "scan.json").read_text(encoding="utf-8"))["scope"] == ""


def test_a_clean_verdict_without_a_reference_is_worded_weaker(run: Run, files: Any, tmp_path: Path) -> None:
    arguments = [*files.scan(files.model("clean"), tmp_path), "--method", "silent_detector:make"]
    assert run(arguments).out.startswith("CLEAN. Nothing was looked for.")
    result = run(without_reference(arguments))
    assert result.code == 0
    assert result.out.startswith("CLEAN (weak evidence: no reference). Nothing was looked for.")
    assert "A clean verdict is weak evidence" in result.out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Nothing unusual found, without a reference" in page
    assert "No backdoor found" not in page


def test_a_scan_without_a_reference_uses_a_method_that_needs_none(
    run: Run, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmend.cli.method_choice.chosen_detector", lambda name, *_: QUICK[name])
    result = run(without_reference(files.scan(files.model("backdoored"), tmp_path)))
    assert result.code in (0, 1, 3), result.err
    report = ScanReport.load(tmp_path)
    assert [finding.detector for finding in report.findings] == ["abs", "mm-bd"]
    assert "No reference was given" in result.out


@pytest.mark.parametrize("name", ["differential", "contrastive-paper-mnist"])
def test_a_method_that_needs_a_reference_is_refused_by_name(
    refused: Callable[..., None], files: Any, tmp_path: Path, name: str
) -> None:
    arguments = [*without_reference(files.scan(files.model("clean"), tmp_path / "out")), "--method", name]
    refused(arguments, "needs a clean reference model, and none was given; .* such as .*mm-bd")


def test_in_python_the_default_without_a_reference_needs_none(
    world: planted.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmend.detection.scanning.default_detectors", lambda _: DetectorChoice(QUICK))
    report = scan(Case(world.clean, None, world.images[:12], world.labels[:12]), seed=0)
    assert [finding.detector for finding in report.findings] == ["abs", "mm-bd"]
    assert report.scope.startswith("No reference was given")
