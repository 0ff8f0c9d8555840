"""A file at ``--out``: an error before the work begins, or removed at once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmend.cli import repair_command
from fedmend.cli.saving import make_way
from fedmend.errors import ConfigError, OutputError

Refused = Callable[..., None]


@pytest.fixture
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for name in ("load_case", "prune_run"):
        monkeypatch.setattr(repair_command, name, work)


def commands(files: Any, folder: Path) -> list[list[str]]:
    out = str(folder / "repaired.safetensors")
    return [
        files.repair(files.model("backdoored"), folder),
        ["repair", str(folder), "--method", "prune", "--out", out],
    ]


@pytest.mark.usefixtures("_no_work")
def test_a_file_there_is_refused_before_the_work_begins(refused: Refused, files: Any, tmp_path: Path) -> None:
    (tmp_path / "repaired.safetensors").write_bytes(b"an earlier repair's")
    for words in commands(files, tmp_path):
        refused(words, "repaired.safetensors is there already; choose another, or let --overwrite remove it")


@pytest.mark.usefixtures("_no_work")
def test_overwriting_removes_it_before_the_work_begins(
    run: Callable[..., Any], files: Any, tmp_path: Path
) -> None:
    out = tmp_path / "repaired.safetensors"
    for words in commands(files, tmp_path):
        out.write_bytes(b"an earlier repair's")
        assert run([*words, "--overwrite"]).code == 130
        assert not out.exists()


@pytest.mark.usefixtures("_no_work")
def test_what_is_read_is_never_removed(refused: Refused, files: Any, tmp_path: Path) -> None:
    for name in ("backdoored", "reference"):
        shutil.copy(files.model(name), tmp_path / f"{name}.safetensors")
    suspect, reference = (str(tmp_path / f"{name}.safetensors") for name in ("backdoored", "reference"))
    for out in (suspect, reference):
        words = files.repair(suspect, tmp_path, reference=reference)
        refused([*words, "--overwrite", "--out", out], "is a file that this repair reads")
    checkpoint = tmp_path / "run" / "checkpoints" / "round-0001.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"a model")
    words = ["repair", str(tmp_path / "run"), "--method", "prune", "--out", str(checkpoint)]
    refused([*words, "--overwrite"], "is a file that this repair reads")


@pytest.mark.parametrize("command", ["scan", "repair"])
@pytest.mark.parametrize("name", ["trigger", "trigger-2"])
def test_a_model_named_like_a_trigger_is_not_replaced_by_one(
    refused: Refused, files: Any, tmp_path: Path, command: str, name: str
) -> None:
    mine = shutil.copy(files.model("backdoored"), tmp_path / f"{name}.safetensors")
    for words in (
        getattr(files, command)(str(mine), tmp_path),
        getattr(files, command)(files.model("backdoored"), tmp_path, reference=str(mine)),
    ):
        refused(words, f"{name}.safetensors would be replaced by a recovered trigger; rename it")


def test_a_repaired_model_is_not_named_like_a_trigger(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a recovered trigger would be written there"):
        make_way(tmp_path / "trigger.safetensors", False, [])


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    for target in ("mine", "nothing"):
        link = tmp_path / "out.safetensors"
        link.symlink_to(tmp_path / target)
        with pytest.raises(ConfigError, match="is there already"):
            make_way(link, False, [])
        make_way(link, True, [])
        assert not link.is_symlink()
    assert (tmp_path / "mine").exists()


def test_a_folder_cannot_be_removed(tmp_path: Path) -> None:
    (tmp_path / "out.safetensors").mkdir()
    with pytest.raises(OutputError, match="can't write"):
        make_way(tmp_path / "out.safetensors", True, [])
