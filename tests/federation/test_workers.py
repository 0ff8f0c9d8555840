import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from simulations import Killed, assert_same, busy, run, stopping_at
from tiny_data import data, settings
from torch import nn

from fedmend.errors import ConfigError, FedmendError, ModelError
from fedmend.federation import ClientUpdate, Federation, RoundPlan, build_federation, workers
from fedmend.federation.client_fit import Fit, fit_one_by_one
from fedmend.federation.simulator import initial_model
from fedmend.federation.workers import begin_start, can_be_sent, client_workers
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten


@pytest.fixture(scope="module")
def pair() -> Iterator[Fit]:
    """Two worker processes, for all tests here that don't end them."""
    with client_workers(2) as fit:
        yield fit


PLAN = RoundPlan(2, 7, LocalTraining(epochs=1, batch_size=8))


def federation() -> tuple[Federation, nn.Module]:
    return build_federation(busy(), data()[0]), initial_model(busy(), data()[0])


def odd(*does: str, folder: Path | None = None) -> list[Any]:
    return [Odd(number, each, str(folder)) for number, each in enumerate(does)]


class Odder(Exception):
    """One that doesn't survive being pickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first}, {second}")


@dataclass(frozen=True)
class Odd:
    """A client that does one thing only."""

    client_id: int
    does: str
    folder: str = ""

    def fit(self, model: nn.Module, task: object, seed: int) -> ClientUpdate:
        if self.does == "count":
            model.fits = getattr(model, "fits", 0) + 1
            return ClientUpdate(self.client_id, 1, torch.full_like(flatten(model.state_dict()), model.fits))
        if self.does == "look for ties":
            model.first.weight.data += 1
            tied = model.first.weight is model.second.weight
            delta = torch.zeros_like(flatten(model.state_dict()))
            delta[:2] = torch.tensor([tied, float(model.first.weight.sum())])
            return ClientUpdate(self.client_id, 1, delta)
        if self.does == "die":
            os._exit(3)
        if self.does == "fail":
            raise ModelError("as told")
        if self.does == "fail oddly":
            raise Odder(1, 2)
        if self.does == "sleep":
            time.sleep(60)
        if self.does == "wait for the other":
            Path(self.folder, str(self.client_id)).touch()
            deadline = time.monotonic() + 60
            while not Path(self.folder, str(1 - self.client_id)).exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        if self.does == "read the environment":
            number = float(os.environ["FEDMEND_TEST"])
            return ClientUpdate(self.client_id, 1, torch.full_like(flatten(model.state_dict()), number))
        number = float(os.getpid()) if self.does == "process" else float(torch.get_num_threads())
        return ClientUpdate(self.client_id, 1, torch.full_like(flatten(model.state_dict()), number))


def test_each_client_is_given_the_model_as_it_was(pair: Fit) -> None:
    """Also what is in no state_dict; whichever worker it is trained by, and whatever that did before."""
    _, model = federation()
    for _ in range(2):
        found = pair(model, odd(*["count"] * 6), PLAN)
        assert [float(update.delta[0]) for update, _ in found] == [1.0] * 6


class Tied(nn.Module):
    """Two layers with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.first.weight = self.second.weight
        nn.init.zeros_(self.first.weight)


def test_each_client_is_given_tied_weights_as_such(pair: Fit) -> None:
    found = pair(Tied(), odd(*["look for ties"] * 6), PLAN)
    assert [update.delta[:2].tolist() for update, _ in found] == [[1, 4]] * 6


class Repair:
    """A task with a model of its own, as a repair's has."""

    training = LocalTraining(epochs=1, batch_size=8)

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher

    def __call__(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> None:
        with torch.no_grad():
            wanted = self.teacher.eval()(images / 255).argmax(1)
        self.training(model, images, wanted, seed)


@pytest.mark.parametrize("repair", [False, True])
def test_they_send_what_they_send_one_by_one(pair: Fit, repair: bool) -> None:
    found_by, model = federation()
    before, state = flatten(model.state_dict()), torch.get_rng_state()
    mask = {"0.weight": torch.zeros(4, 1, 3, 3, dtype=torch.bool).index_fill_(0, torch.tensor([1]), True)}
    plan = found_by.plan(2, Repair(federation()[1]) if repair else None, mask)
    expected = fit_one_by_one(model, found_by.clients, plan)
    found = pair(model, found_by.clients, plan)
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


def test_a_run_goes_on_by_any_number_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose module is in the current folder."""
    (tmp_path / "net_of_this_folder.py").write_text(NET, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = busy("net_of_this_folder:Net")
    alone = run(config, tmp_path / "alone")
    with pytest.raises(Killed):
        run(config, tmp_path / "both", progress=stopping_at(1))
    assert_same(run(config, tmp_path / "both", workers=2, resume=True), alone)


def test_they_train_at_once_each_with_one_thread(pair: Fit, tmp_path: Path) -> None:
    model = federation()[1]
    clients = odd(*["wait for the other"] * 2, folder=tmp_path)
    assert [float(update.delta[0]) for update, _ in pair(model, clients, PLAN)] == [1, 1]


@pytest.mark.parametrize("number", ["1", "2"])
def test_they_have_the_environment_of_the_call(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """Not that in which the process was started from which they are forked."""
    monkeypatch.setenv("FEDMEND_TEST", number)
    with client_workers(2) as fit:
        ((update, _),) = fit(federation()[1], odd("read the environment"), PLAN)
    assert float(update.delta[0]) == float(number)


def test_they_are_started_anew_where_they_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_long() -> None:
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(workers, "ensure_running", too_long)
    assert begin_start() == "spawn"
    with client_workers(2) as fit:
        found = fit(federation()[1], odd("threads", "threads"), PLAN)
    assert [float(update.delta[0]) for update, _ in found] == [1, 1]


@pytest.mark.parametrize("start", ["as here", "spawn"])
def test_one_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    def dead(*_: Any) -> None:
        raise EOFError("unexpected EOF")

    if start == "spawn":
        monkeypatch.setattr(workers, "begin_start", lambda: start)
    monkeypatch.setattr(BaseProcess, "start", dead)
    with pytest.raises(FedmendError, match=r"can't be started \(unexpected EOF\)"), client_workers(2) as fit:
        fit(federation()[1], odd("threads"), PLAN)


def test_what_a_client_raises_is_raised(pair: Fit) -> None:
    found_by, model = federation()
    first, _, third, _ = found_by.clients
    with pytest.raises(ModelError, match="as told"):
        pair(model, [first, *odd("fail"), third], PLAN)
    with pytest.raises(RuntimeError, match=r"(?s)failed in a worker process.*Odder: 1, 2"):
        pair(model, odd("fail oddly"), PLAN)
    assert len(pair(model, found_by.clients, found_by.plan(1))) == 4


def test_a_model_that_cannot_be_sent(pair: Fit) -> None:
    model = federation()[1]
    model.register_forward_pre_hook(lambda module, images: None)
    with pytest.raises(ConfigError, match=r"can't be sent to a worker process .* use one worker"):
        pair(model, [], PLAN)
    assert not can_be_sent(model)
    assert can_be_sent(federation()[1])


@pytest.mark.parametrize(
    ("first", "error", "message"),
    [("die", FedmendError, "worker process died"), ("fail", ModelError, "as told")],
)
def test_the_others_end_with_one_that_fails(first: str, error: type[Exception], message: str) -> None:
    model, started = federation()[1], time.monotonic()
    with pytest.raises(error, match=message), client_workers(2) as fit:
        fit(model, odd(first, "sleep"), PLAN)
    assert time.monotonic() - started < 50


def test_a_model_that_cannot_be_sent_is_trained_here_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    config = settings(model={"architecture": "tiny_nets:hooked"}, federation={"rounds": 1})
    assert run(config, tmp_path / "default", workers=None).last_round() == 1
    with pytest.raises(ConfigError, match="can't be sent to a worker process"):
        run(config, tmp_path / "two", workers=2)


def test_none_is_not_a_number_of_workers() -> None:
    with pytest.raises(ConfigError, match="1 or more; got 0"), client_workers(0):
        pass


ORPHANS = """
import os
from test_workers import PLAN, federation, odd
from fedmend.federation.workers import client_workers
if __name__ == "__main__":
    with client_workers(2) as fit:
        for update, _ in fit(federation()[1], odd(*["process"] * 8), PLAN):
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
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
    )
    processes = {Path("/proc") / number for number in done.stdout.split()}
    assert done.returncode == -9
    assert processes
    deadline = time.monotonic() + 20
    while any(map(running, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(running, processes))
    assert not list(tmp_path.glob("fedmend-*"))


def running(process: Path) -> bool:
    """Whether it is there and no zombie, which a parent of another's has yet to bury."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
