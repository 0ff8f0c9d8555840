"""The same federation in process and on Flower."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from stand_ins import LocalGrid
from torch import Tensor

from fedmend.checkpoints import read_state
from fedmend.data import load_images
from fedmend.errors import FedmendError
from fedmend.federation import (
    Execution,
    RunFolder,
    SimulationConfig,
    build_federation,
    initial_model,
    parse_config,
    simulate,
)
from fedmend.federation.client_fit import fit_client
from fedmend.federation.simulator import laid_out
from fedmend.integrations.flower.simulation_engine import GridFit, client_app
from fedmend.parameters import unflatten

CLIENTS = 4


@pytest.fixture
def config(tmp_path: Path) -> SimulationConfig:
    random = np.random.default_rng(0)
    images = tmp_path / "images.npz"
    np.savez(
        images,
        images=random.integers(0, 255, (80, 1, 8, 16), dtype=np.uint8),
        labels=np.arange(80) % 4,
    )
    return parse_config(
        {
            "seed": 5,
            "data": {"source": str(images)},
            "model": {"architecture": "small_net:small"},
            "training": {"epochs": 1, "batch_size": 8, "lr": 0.01},
            "federation": {"clients": CLIENTS, "clients_per_round": 3, "rounds": 3},
            "aggregation": {"kind": "fedavgm", "momentum": 0.5},
            "attack": [{"first_round": 2}],
        }
    )


def states(run: RunFolder) -> dict[str, dict[str, Tensor]]:
    return {file.name: read_state(file) for file in sorted((run.path / "checkpoints").glob("round-*"))}


def assert_same(run: RunFolder, other: RunFolder) -> None:
    mine, theirs = states(run), states(other)
    assert list(mine) == list(theirs)
    for name, state in mine.items():
        for key, value in state.items():
            assert torch.equal(value, theirs[name][key]), (name, key)


def on_grid(config: SimulationConfig, app: Any = client_app) -> Execution:
    grid = LocalGrid(app, range(10, 10 + CLIENTS))
    return Execution(fit=GridFit(grid, config, str(Path.cwd())))


def test_flower_and_the_simulator_give_the_same_parameters(config: SimulationConfig, tmp_path: Path) -> None:
    """Bit for bit, with an attacker, momentum, dropout and BatchNorm's buffers."""
    here = simulate(config, tmp_path / "here")
    there = simulate(config, tmp_path / "there", execution=on_grid(config))
    assert_same(there, here)
    assert [record.clients for record in there.records()] == [record.clients for record in here.records()]


def test_flowers_own_strategy_gives_the_same_parameters(config: SimulationConfig, tmp_path: Path) -> None:
    """FedAvg adds in another order, so up to rounding, which Adam would blow up."""
    tables = config.to_dict()
    tables["federation"]["clients_per_round"] = CLIENTS
    tables["training"] |= {"optimizer": "sgd", "lr": 0.05}
    plain = parse_config(tables | {"aggregation": {"kind": "fedavg"}, "attack": []})
    here = simulate(plain, tmp_path / "here")
    images = load_images(plain.data.source, "train")
    clients = build_federation(plain, images)
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number = message.content["config"]["server-round"]
        client = clients.clients[int(context.node_config["partition-id"])]
        model = laid_out(initial_model(plain, images), images, "cpu")  # dropout depends on the layout
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        before = {name: value.clone() for name, value in model.state_dict().items()}
        fitted = fit_client(model, client, clients.plan(number))
        assert isinstance(fitted, tuple)
        update, buffers = fitted
        delta = unflatten(update.delta, before)
        state = {
            name: buffers[name] if name in buffers else value + delta[name] for name, value in before.items()
        }
        metrics = MetricRecord({"num-examples": update.num_examples})
        return Message(RecordDict({"arrays": ArrayRecord(state), "metrics": metrics}), reply_to=message)

    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
    grid = LocalGrid(app, range(10, 10 + CLIENTS))
    result = strategy.start(grid, ArrayRecord(initial_model(plain, images).state_dict()), 3)
    expected = states(here)["round-0003.safetensors"]
    for name, value in result.arrays.to_torch_state_dict().items():
        torch.testing.assert_close(value.to(expected[name]), expected[name], rtol=1e-3, atol=1e-4)


def test_a_run_can_be_resumed_on_the_other_engine(config: SimulationConfig, tmp_path: Path) -> None:
    tables = config.to_dict()
    tables["federation"]["rounds"] = 2
    shorter = parse_config(tables)
    simulate(shorter, tmp_path / "there", execution=on_grid(shorter))
    there = simulate(config, tmp_path / "there", resume=True)
    assert_same(there, simulate(config, tmp_path / "here"))


def test_a_node_that_fails_is_named(config: SimulationConfig, tmp_path: Path) -> None:
    def app(message: Message, context: Context) -> Message:
        raise RuntimeError("out of memory")

    with pytest.raises(FedmendError, match=r"client \d failed on Flower's engine: out of memory"):
        simulate(config, tmp_path / "run", execution=on_grid(config, app))


def test_a_node_that_is_silent_is_named(config: SimulationConfig, tmp_path: Path) -> None:
    execution = on_grid(config)
    assert isinstance(execution.fit, GridFit)
    execution.fit.grid.silent = set(range(10, 14))  # type: ignore[attr-defined]
    with pytest.raises(FedmendError, match=r"client \d didn't reply"):
        simulate(config, tmp_path / "run", execution=execution)


@pytest.mark.slow
def test_the_command_on_flowers_engine(config: SimulationConfig, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Flower's simulation engine runs on Ray")
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    here = simulate(config, tmp_path / "here")
    subprocess.run(
        [
            sys.executable,
            *("-m", "fedmend", "simulate", str(settings), "--out", str(tmp_path / "there")),
            *("--engine", "flower", "--workers", "2", "--device", "cpu"),
        ],
        cwd=Path(__file__).parent,
        check=True,
        timeout=300,
    )
    assert_same(RunFolder(tmp_path / "there"), here)
