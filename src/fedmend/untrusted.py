"""Code and values of untrusted clients: a call ends in time and never raises; of a value only plain data is taken.

A client's object can override any method, also of tensors, and code in this process can't be contained for good. But
nothing here calls a method of a value: its type must be exactly the one that is expected.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeGuard

import torch
from torch import Tensor

from fedmend.user_code import in_one_line

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

LATE = "no reply in time"
FAILED = "the client failed"
_LONGEST_MESSAGE = 200


class _InterruptedError(BaseException):
    """Raised in the thread of a call that took too long."""


def attempt(call: Callable[[], object], timeout: float) -> tuple[object, str | None]:
    """Call untrusted code in a thread of its own.

    After the timeout the thread is interrupted and, if that doesn't end it (it may wait in C code, or catch
    everything), abandoned. So whatever the code can reach should be a copy.

    Args:
        call: the code.
        timeout: seconds to wait.

    Returns:
        What it returned, to be trusted in no way, and None; or None and why there is nothing: the call was late, or it
        raised something, be it ``SystemExit`` or ``KeyboardInterrupt``.
    """
    results: SimpleQueue[tuple[object, str | None]] = SimpleQueue()

    def run() -> None:
        with suppress(_InterruptedError):
            try:
                results.put((call(), None))
            except BaseException as error:
                results.put((None, f"{FAILED}: {_message(error)}"))

    thread = threading.Thread(target=run, name="untrusted client", daemon=True)
    thread.start()
    try:
        return results.get(timeout=min(timeout, threading.TIMEOUT_MAX))
    except Empty:
        return None, LATE
    finally:
        if thread.is_alive() and results.empty():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_InterruptedError)
            )


def plain_tensor(value: object, dtypes: Sequence[torch.dtype], shape: tuple[int, ...]) -> Tensor | None:
    """A copy on the CPU of an ordinary dense tensor of this shape and one of these types; None for anything else.

    A subclass of Tensor is something else.
    """
    if not is_plain(value, dtypes) or tuple(value.shape) != shape:
        return None
    with torch.no_grad():
        return torch.empty(shape, dtype=value.dtype).copy_(value)


def is_plain(value: object, dtypes: Sequence[torch.dtype]) -> TypeGuard[Tensor]:
    """Whether a value is an ordinary dense tensor with data, of one of these types and of no subclass."""
    return (
        type(value) is Tensor
        and value.layout == torch.strided
        and not value.is_meta
        and not value.is_quantized
        and value.dtype in dtypes
    )


def _message(error: BaseException) -> str:
    """An error's kind and message as short printable text; called in the error's own thread."""
    try:
        text = in_one_line(error)
    except BaseException:
        text = "an error that can't be shown"
    return "".join([character for character in text if character.isprintable()])[:_LONGEST_MESSAGE]
