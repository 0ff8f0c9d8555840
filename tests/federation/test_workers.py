import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from test_simulator import Killed, assert_same, busy, run, stopping_at
from tiny_data import data
from torch import nn

from fedmend.errors import ConfigError, FedmendError, ModelError
from fedmend.federation import ClientUpdate
from fedmend.federation.simulator import initial_model, make_clients, run_round
from fedmend.federation.workers import Fit, fitting, one_by_one
from fedmend.parameters import flatten


@pytest.fixture(scope="module")
def pair() -> Iterator[Fit]:
    """Two worker processes, for all tests here that don't end them."""
    with fitting(2) as fit:
        yield fit


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def federation(**changes: Any) -> tuple[Any, nn.Module, list[Any]]:
    config = busy(**changes)
    return config, initial_model(config, data()[0]), make_clients(config, data()[0], "cpu")


@dataclass(frozen=True)
class Odd:
    """A client that does one thing only."""

    client_id: int
    does: str

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        if self.does == "die":
            os._exit(3)
        if self.does == "fail":
            raise ModelError("as told")
        number = {"threads": float(torch.get_num_threads()), "process": float(os.getpid())}[self.does]
        return ClientUpdate(self.client_id, 1, torch.full_like(flatten(model.state_dict()), number))


@pytest.mark.usefixtures("one_thread")
def test_they_send_what_they_send_one_by_one(pair: Fit) -> None:
    _, model, clients = federation()
    before, state = flatten(model.state_dict()), torch.get_rng_state()
    zeros = {"0.weight": torch.zeros(4, 1, 3, 3, dtype=torch.bool).index_fill_(0, torch.tensor([1]), True)}
    expected = one_by_one(model, clients, [3, 1, 4, 1], zeros)
    found = pair(model, clients, [3, 1, 4, 1], zeros)
    for (update, buffers), (same, same_buffers) in zip(found, expected, strict=True):
        assert (update.client_id, update.num_examples) == (same.client_id, same.num_examples)
        assert torch.equal(update.delta, same.delta)
        assert buffers == same_buffers
        assert list(buffers) == ["1.num_batches_tracked"]
    assert not torch.equal(found[0][0].delta, found[1][0].delta)
    assert torch.equal(flatten(model.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), state)


NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        layers = nn.Flatten(), nn.BatchNorm1d(128), nn.Dropout(0.3), nn.Linear(128, num_classes)
        super().__init__(*layers)
"""


@pytest.mark.usefixtures("one_thread")
def test_a_run_goes_on_by_any_number_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose module is in the current folder."""
    (tmp_path / "net_of_this_folder.py").write_text(NET, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = busy("net_of_this_folder:Net")
    alone = run(config, tmp_path / "alone")
    with pytest.raises(Killed):
        run(config, tmp_path / "both", progress=stopping_at(1))
    assert_same(run(config, tmp_path / "both", workers=2, resume=True), alone)


def test_each_is_a_process_with_one_thread(pair: Fit) -> None:
    model = federation()[1]
    clients = [Odd(number, "process") for number in range(8)]
    processes = {float(update.delta[0]) for update, _ in pair(model, clients, range(8), {})}
    assert 1 <= len(processes) <= 2
    assert float(os.getpid()) not in processes
    assert pair(model, [Odd(0, "threads")], [0], {})[0][0].delta[0] == 1


def test_what_a_client_raises_is_raised(pair: Fit) -> None:
    config, model, clients = federation()
    with pytest.raises(ModelError, match="as told"):
        pair(model, [clients[0], Odd(1, "fail"), clients[2]], [0, 1, 2], {})
    run_round(model, clients, config, 1, fit=pair)


def test_a_model_that_cannot_be_sent(pair: Fit) -> None:
    model = federation()[1]
    model.register_forward_pre_hook(lambda module, images: None)
    with pytest.raises(ConfigError, match=r"can't be sent to a worker process .* take one worker"):
        pair(model, [], [], {})


def test_a_worker_that_dies() -> None:
    model = federation()[1]
    with fitting(2) as fit, pytest.raises(FedmendError, match="worker process died"):
        fit(model, [Odd(0, "die"), Odd(1, "threads")], [0, 1], {})


def test_none_is_not_a_number_of_workers() -> None:
    with pytest.raises(ConfigError, match="1 or more; got 0"), fitting(0):
        pass


ORPHANS = """
import os
from test_workers import Odd, federation
from fedmend.federation.workers import fitting
if __name__ == "__main__":
    with fitting(2) as fit:
        for update, _ in fit(federation()[1], [Odd(n, "process") for n in range(8)], range(8), {}):
            print(int(update.delta[0].item()), flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_they_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS, encoding="utf-8")
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    processes = {Path("/proc") / number for number in done.stdout.split()}
    assert done.returncode == -9
    assert processes
    deadline = time.monotonic() + 20
    while any(map(running, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, processes))


def running(process: Path) -> bool:
    """Whether it is there and no zombie, which a parent of another's has yet to bury."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
