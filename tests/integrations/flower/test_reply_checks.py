"""Replies that could break the aggregation are left out, and the federation goes on with the rest."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from stand_ins import NODES, DictatedGuard, LocalGrid, adding, arrays_of, net, reply_with

from fedmend.integrations.flower import GuardedStrategy
from fedmend.integrations.flower.array_parsing import parsed

BIAS = "4.bias"
MODEL = "its reply holds no model of this federation"
METRICS = "its reply's metrics have another form than most"


def with_bias(value: Array) -> Callable[[Message], Message]:
    def reply(message: Message) -> Message:
        sent = reply_with(message, message.content["arrays"].to_torch_state_dict())
        sent.content["arrays"][BIAS] = value
        return sent

    return reply


def with_metrics(metrics: dict[str, Any], **more: Any) -> Callable[[Message], Message]:
    def reply(message: Message) -> Message:
        content = {"arrays": message.content["arrays"], "metrics": MetricRecord(metrics), **more}
        return Message(RecordDict(content), reply_to=message)

    return reply


def without(name: str) -> Callable[[Message], Message]:
    def reply(message: Message) -> Message:
        state = message.content["arrays"].to_torch_state_dict()
        del state[name]
        return reply_with(message, state)

    return reply


def another_order(message: Message) -> Message:
    state = message.content["arrays"].to_torch_state_dict()
    return reply_with(message, dict(reversed(state.items())))


def told(dtype: str, shape: tuple[int, ...], data: bytes, stype: str = "numpy.ndarray") -> Array:
    return Array(dtype, shape, stype, data)


def header_only(shape: tuple[int, ...]) -> bytes:
    """A NumPy file that claims a huge array and holds nothing of it."""
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def file_with(header: str, values: bytes = b"") -> Array:
    """A bias in a NumPy file with this header."""
    content = header.encode() + b"\n"
    return told("float32", (2,), b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + values)


OWN = net().state_dict()[BIAS].numpy()
GARBAGE = {
    "another shape": (with_bias(Array(np.zeros(3, np.float32))), MODEL),
    "a shape that NumPy would stretch": (with_bias(Array(np.zeros(1, np.float32))), MODEL),
    "NaN": (with_bias(Array(np.full(2, np.nan, np.float32))), "its model holds NaN or infinite values"),
    "infinite": (with_bias(Array(np.full(2, np.inf, np.float32))), "its model holds NaN or infinite values"),
    "complex": (with_bias(Array(np.zeros(2, np.complex64))), MODEL),
    "text": (with_bias(Array(np.array(["a", "b"]))), MODEL),
    "no NumPy file": (with_bias(told("float32", (2,), b"garbage")), MODEL),
    "a huge array in the header": (with_bias(told("float32", (2,), header_only((2**40,)))), MODEL),
    "a header cut short": (with_bias(file_with("{'descr': '<f4', 'shape': (2,")), MODEL),
    "an indented header": (with_bias(file_with("  1\n 2")), MODEL),
    "an incomplete type": (
        with_bias(file_with("{'descr': ('<f4',), 'fortran_order': False, 'shape': (2,)}", bytes(8))),
        MODEL,
    ),
    "floats of 16 bytes": (
        with_bias(file_with("{'descr': '<f16', 'fortran_order': False, 'shape': (2,)}", bytes(32))),
        MODEL,
    ),
    "another byte order": (with_bias(Array(OWN.astype(OWN.dtype.newbyteorder()))), MODEL),
    "another way to store": (with_bias(told("float32", (2,), Array(OWN).data, "pickle")), MODEL),
    "an entry too few": (without(BIAS), MODEL),
    "another order": (another_order, MODEL),
    "no metrics": (with_metrics({}), "its number of examples"),
    "no examples": (with_metrics({"loss": 0.5, "num-examples": 0}), "its number of examples"),
    "examples without end": (with_metrics({"loss": 0.5, "num-examples": 1e30}), "its number of examples"),
    "NaN examples": (with_metrics({"loss": 0.5, "num-examples": float("nan")}), "its number of examples"),
    "a list of examples": (with_metrics({"loss": 0.5, "num-examples": [1]}), "its number of examples"),
    "other metrics": (with_metrics({"x": 0.5, "num-examples": 10}), METRICS),
    "a list as a metric": (with_metrics({"loss": [0.5], "num-examples": 10}), METRICS),
    "two records of metrics": (
        with_metrics({"loss": 0.5, "num-examples": 10}, more=MetricRecord({"num-examples": 1})),
        METRICS,
    ),
}


@pytest.mark.parametrize(("garbage", "reason"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_of_one_client_is_left_out(
    garbage: Callable[[Message], Message], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    honest, guard = adding(1.0), DictatedGuard("accept")

    def app(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 0 and message.metadata.message_type == "train":
            return garbage(message)
        return honest(message, context)

    with caplog.at_level("WARNING", logger="flwr"):
        result = GuardedStrategy(FedAvg(), guard).start(LocalGrid(app), arrays_of(net()), 1)
    torch.testing.assert_close(guard.candidates[1][BIAS], torch.from_numpy(OWN) + 1)
    assert result.train_metrics_clientapp[1]["guard-refused-replies"] == 1
    assert f"the reply of node {NODES[0]} is left out: {reason}" in caplog.text


def test_a_reply_to_evaluate_of_another_form_is_left_out() -> None:
    honest = adding(1.0)

    def app(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 0 and message.metadata.message_type == "evaluate":
            return with_metrics({"accuracy": 0.0})(message)
        return honest(message, context)

    result = GuardedStrategy(FedAvg(), DictatedGuard("accept")).start(LocalGrid(app), arrays_of(net()), 1)
    assert result.evaluate_metrics_clientapp[1]["accuracy"] == pytest.approx(0.5)


def test_a_failed_client_is_left_to_the_strategy() -> None:
    honest, guard = adding(1.0), DictatedGuard("accept")

    def app(message: Message, context: Context) -> Message:
        if context.node_config["partition-id"] == 0:
            raise RuntimeError("out of memory")
        return honest(message, context)

    GuardedStrategy(FedAvg(), guard).start(LocalGrid(app), arrays_of(net()), 1)
    torch.testing.assert_close(guard.candidates[1][BIAS], torch.from_numpy(OWN) + 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_arrays_are_parsed_as_they_were(dtype: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    found = parsed(Array(values), most_bytes=48)
    assert found is not None
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_nothing_larger_than_expected_is_parsed() -> None:
    assert parsed(Array(np.zeros(1000)), most_bytes=8) is None
    assert parsed("no array", most_bytes=8) is None


def test_the_config_stays_the_inner_strategys() -> None:
    grid, config = LocalGrid(adding(1.0)), ConfigRecord({"lr": 0.1})
    GuardedStrategy(FedAvg(), DictatedGuard("accept")).start(
        grid, ArrayRecord(net().state_dict()), 1, train_config=config
    )
    assert grid.sent[0].content["config"]["lr"] == 0.1
