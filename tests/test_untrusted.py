"""Calls of untrusted code, and what is taken of its replies."""

import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.untrusted import FLOATS, INTEGERS, LATE, attempt, plain_tensor


def failing(error: BaseException) -> object:
    raise error


def test_what_a_call_returns_is_returned() -> None:
    assert attempt(lambda: 7, 10) == (7, None)
    assert attempt(lambda: None, 1e12) == (None, None)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no"), "the client failed: ValueError: no"),
        (SystemExit(0), "the client failed: SystemExit: 0"),
        (KeyboardInterrupt(), "the client failed: KeyboardInterrupt"),
        (ValueError("a\nb\x1b[2Jc\u202e"), "the client failed: ValueError: a b[2Jc"),
        (ValueError("x" * 10_000), "the client failed: ValueError: " + "x" * 188),
        (Unspeakable(), "the client failed: an error that can't be shown"),
    ],
)
def test_whatever_a_call_raises_is_told_in_short_printable_words(error: BaseException, told: str) -> None:
    assert attempt(lambda: failing(error), 10) == (None, told)


def test_a_call_that_hangs_is_interrupted() -> None:
    ended = threading.Event()

    def hang() -> None:
        try:
            while True:
                time.sleep(0.01)
        finally:
            ended.set()

    started = time.monotonic()
    assert attempt(hang, 0.1) == (None, LATE)
    assert time.monotonic() - started < 5
    assert ended.wait(10)


def test_a_call_that_cannot_be_interrupted_is_abandoned() -> None:
    free = threading.Event()

    def hang() -> None:
        while True:
            try:
                free.wait()
                return
            except BaseException:
                continue

    assert attempt(hang, 0.1) == (None, LATE)
    free.set()


def test_the_users_own_interrupt_is_no_clients() -> None:
    """It comes to the waiting thread."""

    def interrupt() -> None:
        import _thread

        _thread.interrupt_main()
        time.sleep(0.5)

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupt, 20)


def test_a_plain_tensor_is_copied() -> None:
    sent = torch.tensor([1.0, 2.0], requires_grad=True)
    taken = plain_tensor(sent, FLOATS, (2,))
    assert taken is not None
    with torch.no_grad():
        sent.fill_(9)
    assert taken.tolist() == [1, 2]
    assert not taken.requires_grad


class Hostile(Tensor):
    """Would run code on any use."""

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        raise AssertionError("code of a client ran")


def disguised() -> Tensor:
    """An ordinary tensor whose methods are its owner's."""
    tensor = torch.zeros(2)
    for name in ("detach", "cpu", "clone", "to", "isfinite", "contiguous"):
        setattr(tensor, name, lambda *_, **__: failing(AssertionError("code of a client ran")))
    return tensor


def test_methods_of_a_tensor_are_not_called() -> None:
    taken = plain_tensor(disguised(), FLOATS, (2,))
    assert taken is not None
    assert taken.tolist() == [0, 0]


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2).as_subclass(Hostile),
        torch.nn.Parameter(torch.zeros(2)),
        torch.zeros(3),
        torch.zeros(1, 2),
        torch.zeros(()).expand(10**9),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2).to_sparse(),
        torch.zeros(2, device="meta"),
        [0.0, 0.0],
        None,
    ],
    ids=[
        *("subclass", "parameter", "length", "dimensions", "expanded", "integers", "sparse", "meta", "list"),
        "nothing",
    ],
)
def test_anything_else_is_not_taken(value: object) -> None:
    assert plain_tensor(value, FLOATS, (2,)) is None
    assert plain_tensor(torch.zeros(2), INTEGERS, (2,)) is None
