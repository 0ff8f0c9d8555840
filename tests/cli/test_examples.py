"""The example's three commands, on data small enough for a test; and a run that is resumed and reported."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted

EXAMPLES = Path(__file__).parents[2] / "examples"

CONFIG = """
[data]
source = "{data}"
[model]
architecture = "own_model:make"
[training]
epochs = 1
[federation]
clients = 3
clients_per_round = 2
rounds = {rounds}
"""


@pytest.mark.usefixtures("importable")
def test_a_model_of_ones_own(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    images, labels = planted.draw(60, seed=2)
    data = str(tmp_path / "images.npz")
    np.savez(data, images=images.numpy(), labels=labels.numpy())
    config, out = tmp_path / "config.toml", tmp_path / "run"
    config.write_text(CONFIG.format(data=data, rounds=1), encoding="utf-8")

    first = run(["simulate", str(config), "--out", str(out)])
    assert (first.code, first.err) == (0, "")
    assert re.fullmatch(r"Round 1: accuracy [\d.]+%\nModel: .*round-0001.safetensors\n", first.out)
    again = run(["simulate", str(config), "--out", str(out)])
    assert (again.code, again.out) == (2, "")
    assert "resume it (--resume)" in again.err
    config.write_text(CONFIG.format(data=data, rounds=2), encoding="utf-8")
    resumed = run(["simulate", str(config), "--out", str(out), "--resume"])
    assert (resumed.code, resumed.err) == (0, "")
    assert resumed.out.startswith("Round 2: ")
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        f"round-{number:04d}.safetensors" for number in range(3)
    ]

    suspect, reference = (str(out / "checkpoints" / f"round-{n:04d}.safetensors") for n in (2, 1))
    given = [suspect, "--reference", reference, "--model", "own_model:make", "--data", data]
    scanned = run(["scan", *given, "--out", str(out), "--json"])
    assert scanned.code in (0, 1, 3), scanned.err
    assert json.loads(scanned.out)["num_images"] == 60
    repaired = run(["repair", *given, "--out", str(out / "repaired.safetensors")])
    assert repaired.code in (0, 1, 3), repaired.err

    reported = run(["report", str(out)])
    assert (reported.code, reported.out) == (0, f"Report: {out / 'report.html'}\n")
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!")


def test_the_example_s_files_belong_together() -> None:
    settings = tomllib.loads((EXAMPLES / "own_model.toml").read_text(encoding="utf-8"))
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert settings["model"]["architecture"] == "own_model:make"
    assert f"round-{settings['federation']['rounds']:04d}.safetensors" in text
    assert f"round-{settings['attack'][0]['first_round'] - 1:04d}.safetensors" in text


def test_nothing_to_report(refused: Callable[..., None], tmp_path: Path) -> None:
    refused(["report", str(tmp_path)], "nothing to show")
    refused(["report", str(tmp_path / "no")], "no folder")
