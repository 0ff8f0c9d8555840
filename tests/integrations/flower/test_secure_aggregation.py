"""A guard in a federation with Flower's SecAgg+, whose server code sees sums only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import FitRes, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAdam, FedAvg, FedAvgM
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from stand_ins import NODES, DictatedGuard, LocalGrid, net

from fedmend.errors import ConfigError
from fedmend.integrations.flower.secure_aggregation import SecureGuardedStrategy

START = [value.numpy() for value in net().state_dict().values()]
BIAS = list(net().state_dict()).index("4.bias")


class Adding(NumPyClient):
    """Adds its own number to every float."""

    def __init__(self, step: float) -> None:
        self.step = step

    def fit(self, parameters: list[np.ndarray], config: Any) -> tuple[list[np.ndarray], int, dict[str, Any]]:
        moved = [value + (self.step if value.dtype.kind == "f" else 1) for value in parameters]
        return moved, 10, {}


class SecureGrid(LocalGrid):
    """Keeps each node's context, in which SecAgg+ has its keys, and each reply's arrays."""

    run = SimpleNamespace(run_id=1)  # type: ignore[assignment]

    def __init__(self, steps: dict[int, float]) -> None:
        def client(context: Context) -> Any:
            return Adding(steps[context.node_id]).to_client()

        super().__init__(ClientApp(client_fn=client, mods=[secaggplus_mod]), list(steps))
        self.contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in steps}
        self.received: list[np.ndarray] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid4().hex
            message.content = deepcopy(message.content)  # nodes change theirs
            try:
                reply = self.app(message, self.contexts[message.metadata.dst_node_id])
            except Exception as error:
                reply = Message(Error(code=0, reason=repr(error)), reply_to=message)
            replies.append(reply)
            self.received += _arrays(reply)
        return replies


def _arrays(reply: Message) -> list[np.ndarray]:
    """Everything numeric in a reply: arrays, and arrays in the bytes of its settings."""
    assert reply.has_content(), reply.error
    found = [array.numpy() for record in reply.content.array_records.values() for array in record.values()]
    for record in reply.content.config_records.values():
        for value in record.values():
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, bytes) and part.startswith(b"\x93NUMPY"):
                    found.append(np.load(BytesIO(part), allow_pickle=False))
    return found


class Watching(FedAvg):
    """Remembers what secure aggregation gives a strategy."""

    def __init__(self) -> None:
        super().__init__(
            min_fit_clients=3,
            min_available_clients=3,
            fraction_evaluate=0.0,
            initial_parameters=ndarrays_to_parameters(START),
        )
        self.seen: list[list[np.ndarray]] = []

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.seen += [parameters_to_ndarrays(result.parameters) for _, result in results]
        return super().aggregate_fit(server_round, results, failures)


def run(
    guard: DictatedGuard, steps: tuple[float, ...] = (1.0, 2.0, 3.0)
) -> tuple[SecureGrid, Watching, list[np.ndarray]]:
    """A federation of as many rounds as the guard has decisions; returns the final parameters as well."""
    inner = Watching()
    grid = SecureGrid(dict(zip(NODES, steps, strict=True)))
    context = LegacyContext(
        Context(1, 1, {}, RecordDict(), {}),
        config=ServerConfig(num_rounds=len(guard.actions)),
        strategy=SecureGuardedStrategy(inner, guard),
    )
    DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(3, 2, clipping_range=32.0))(grid, context)
    return grid, inner, context.state.array_records["parameters"].to_numpy_ndarrays()


@pytest.mark.slow
def test_the_guard_decides_though_the_server_sees_sums_only() -> None:
    guard = DictatedGuard("accept", "rollback")
    grid, inner, final = run(guard)
    torch.testing.assert_close(
        guard.candidates[1]["4.bias"], torch.from_numpy(START[BIAS]) + 2, atol=3e-3, rtol=0
    )
    torch.testing.assert_close(
        guard.candidates[2]["4.bias"], torch.from_numpy(START[BIAS]) + 4, atol=3e-3, rtol=0
    )
    np.testing.assert_allclose(final[BIAS], START[BIAS] + 2, atol=3e-3)
    sent = [START[BIAS] + step for step in (1.0, 2.0, 3.0)]
    averages = [START[BIAS] + 2, START[BIAS] + 4]
    for model in inner.seen:
        assert any(np.allclose(model[BIAS], average, atol=3e-3) for average in averages)
    assert any(array.shape == START[BIAS].shape for array in grid.received)
    for array in grid.received:
        assert not any(array.shape == own.shape and np.allclose(array, own, atol=0.5) for own in sent)


def call(strategy: SecureGuardedStrategy, value: list[np.ndarray]) -> list[np.ndarray]:
    """One round in which the strategy gets an average."""
    strategy.configure_fit(
        1, ndarrays_to_parameters(START), SimpleNamespace(num_available=lambda: 0, sample=lambda **_: [])
    )  # type: ignore[arg-type]
    result = FitRes(None, ndarrays_to_parameters(value), 10, {})  # type: ignore[arg-type]
    parameters, _ = strategy.aggregate_fit(1, [(None, result)], [])  # type: ignore[list-item]
    assert parameters is not None
    return parameters_to_ndarrays(parameters)


def test_without_a_trusted_model_the_parameters_stay() -> None:
    strategy = SecureGuardedStrategy(FedAvg(), DictatedGuard("rollback"))
    after = call(strategy, [value + 1 for value in START])
    np.testing.assert_array_equal(after[BIAS], START[BIAS])


def test_the_models_own_types_come_back() -> None:
    guard = DictatedGuard("accept")
    after = call(SecureGuardedStrategy(FedAvg(), guard), [value.astype(np.float64) + 0.9 for value in START])
    assert [value.dtype for value in after] == [value.dtype for value in START]
    assert int(guard.candidates[1]["1.num_batches_tracked"]) == 1


def test_a_stop_asks_no_client_again_and_a_restart_goes_on() -> None:
    guard = DictatedGuard("accept", "rollback+stop")
    strategy = SecureGuardedStrategy(FedAvg(), guard)
    call(strategy, [value + 1 for value in START])
    after = call(strategy, [value + 5 for value in START])
    np.testing.assert_array_equal(after[BIAS], START[BIAS] + 1)
    manager: Any = None
    assert strategy.configure_fit(3, ndarrays_to_parameters(START), manager) == []
    first = SecureGuardedStrategy(FedAvg(), guard).initialize_parameters(manager)
    assert first is not None
    np.testing.assert_array_equal(parameters_to_ndarrays(first)[BIAS], START[BIAS] + 1)


@pytest.mark.parametrize("make", [FedAvgM, FedAdam], ids=["fedavgm", "fedadam"])
def test_a_strategy_with_momentum_is_refused(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="remembers nothing"):
        SecureGuardedStrategy(make(initial_parameters=ndarrays_to_parameters(START)), DictatedGuard())
