import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted
from fedmend.checkpoints import save_state
from fedmend.cli import main, progress_display, repair_command
from fedmend.data import load_images
from fedmend.detection import DETECTORS, Case, ContrastivePaper, Differential, ScanReport, scan
from fedmend.repairs import HoldOutGate


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Files:
    """What commands are given, in a folder that no test writes to."""

    folder: Path

    def model(self, name: str) -> str:
        return str(self.folder / f"{name}.safetensors")

    @property
    def images(self) -> str:
        return str(self.folder / "images.npz")

    def options(self, **changes: str) -> list[str]:
        """The options that scan and repair need."""
        values = {
            "reference": self.model("reference"),
            "model": planted.ARCHITECTURE,
            "data": self.images,
            "device": "cpu",
            "seed": "0",
        }
        return [word for name, value in (values | changes).items() for word in (f"--{name}", value)]

    def scan(self, suspect: str, out: Path, **changes: str) -> list[str]:
        return ["scan", suspect, *self.options(**changes), "--out", str(out)]

    def repair(self, suspect: str, out: Path, **changes: str) -> list[str]:
        return ["repair", suspect, *self.options(**changes), "--out", str(out / "repaired.safetensors")]


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, stderr holds what a command has to say alone."""
    monkeypatch.setattr(progress_display, "LINE_SECONDS", math.inf)


@pytest.fixture(autouse=True)
def _quick_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair scans several times; here for patches of one goal alone, in few steps."""
    monkeypatch.setattr(repair_command, "HoldOutGate", partial(HoldOutGate, detector=planted.QUICK))


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search of the default detector, in few steps, for tests of what comes before and after."""
    monkeypatch.setitem(DETECTORS, "differential", partial(Differential, search=planted.SHORT))


@pytest.fixture(scope="session")
def files(world: planted.World, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("given")
    for name in ("reference", "clean", "backdoored"):
        save_state(getattr(world, name).state_dict(), folder / f"{name}.safetensors")
    images, labels = world.images[:120].numpy(), world.labels[:120].numpy()
    np.savez(folder / "images.npz", images=images, labels=labels, class_names=np.array(planted.NAMES))
    return Files(folder)


@pytest.fixture(scope="session")
def fewer_images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """1,700 images of four classes, for federations whose clients are to be quick."""
    sample = load_images("fashion-mnist-sample", "train")
    some = sample.subset((sample.labels < 4).nonzero().flatten()[:1700])
    path = tmp_path_factory.mktemp("fewer") / "fewer.npz"
    np.savez(path, images=some.images.numpy(), labels=some.labels.numpy())
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command line, in this process."""

    def call(arguments: list[str]) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Result(stop.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def refused(run: Callable[..., Result], tmp_path: Path) -> Callable[..., None]:
    """A command ends in one clear line and leaves nothing in ``tmp_path`` that wasn't there before."""

    def check(arguments: list[str], message: str, code: int = 2, *, writes: tuple[str, ...] = ()) -> None:
        before = _contents(tmp_path)
        result = run(arguments)
        assert result.err.startswith("fedmend: "), result.err
        assert re.search(message, result.err), result.err
        assert result.err.count("\n") == 1, result.err
        assert result.err.endswith("\n")
        assert "Traceback" not in result.err
        assert len(result.err) < 800
        assert (result.code, result.out) == (code, "")
        after = _contents(tmp_path)
        assert after.keys() - before.keys() <= set(writes)
        assert {path: after.get(path) for path in before} == before

    return check


def _contents(folder: Path) -> dict[str, Any]:
    """Every file and its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def write_toml() -> Callable[[Path, str], str]:
    def write(path: Path, text: str) -> str:
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def config(files: Files, tmp_path: Path, write_toml: Callable[[Path, str], str]) -> str:
    """A federation of more rounds than anybody waits for."""
    return write_toml(
        tmp_path / "config.toml",
        f"[data]\nsource = '{files.images}'\n[model]\narchitecture = '{planted.ARCHITECTURE}'\n"
        "[training]\nepochs = 1\n[federation]\nclients = 3\nclients_per_round = 2\nrounds = 100000\n",
    )


@pytest.fixture(scope="session")
def scan_report(world: planted.World) -> ScanReport:
    """The result of a search of a single step."""
    return scan(
        Case(world.clean, world.reference, world.images[:12], world.labels[:12]),
        ContrastivePaper(alpha=0.1, beta=0.03, steps=1),
        seed=0,
    )


@pytest.fixture
def quick_scans(monkeypatch: pytest.MonkeyPatch, scan_report: ScanReport) -> Callable[[], None]:
    """Called, it makes scans take no time, for tests of what comes after."""

    def patch() -> None:
        for name in ("scan", "repair"):
            monkeypatch.setattr(f"fedmend.cli.{name}_command.run_scan", lambda *_, **__: scan_report)

    return patch


@pytest.fixture
def importable() -> Iterator[None]:
    """Forget modules that a test imported from a folder of its own."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]
