from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fedmend.cli.thread_choice import SMALL, choose_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def load(folder: Path, running: int) -> Path:
    (folder / "loadavg").write_text(f"0.00 0.00 0.00 {running}/300 12345\n")
    return folder / "loadavg"


@pytest.mark.parametrize(
    ("cost", "running", "threads"),
    [(SMALL - 1, 1, 1), (SMALL, 1, 3), (SMALL, 2, 3), (SMALL, 3, 2), (SMALL, 9, 1)],
)
def test_small_models_get_one_thread_others_those_that_have_a_core(
    tmp_path: Path, cost: int, running: int, threads: int
) -> None:
    choose_threads(cost, CPU, load(tmp_path, running))
    assert torch.get_num_threads() == threads


def test_where_the_system_does_not_tell_torchs_threads_stay(tmp_path: Path) -> None:
    choose_threads(SMALL, CPU, tmp_path / "absent")
    assert torch.get_num_threads() == 3


def test_what_the_environment_says_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    choose_threads(1, CPU, load(tmp_path, 9))
    assert torch.get_num_threads() == 3


def test_a_gpu_leaves_threads_alone(tmp_path: Path) -> None:
    choose_threads(1, torch.device("cuda"), load(tmp_path, 9))
    assert torch.get_num_threads() == 3
