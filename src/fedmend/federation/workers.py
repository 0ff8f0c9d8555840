"""How a round's clients train: one after the other in this process, or several at once in worker processes."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from copy import deepcopy
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, FedmendError
from fedmend.federation.client import Client, ClientUpdate
from fedmend.pruning import held

Fitted: TypeAlias = tuple[ClientUpdate, dict[str, Tensor]]
"""What a client sends, and its model's integer buffers."""


class Fit(Protocol):
    """Has clients train copies of a model, which is left as it was, and returns what each sends, in their order.

    Each client has a seed of its own. Parameters in ``zeros`` are held at zero (see ``fedmend.pruning``).
    """

    def __call__(
        self, model: nn.Module, clients: Sequence[Client], seeds: Sequence[int], zeros: Mapping[str, Tensor]
    ) -> list[Fitted]:
        """Train."""


def one_by_one(
    model: nn.Module, clients: Sequence[Client], seeds: Sequence[int], zeros: Mapping[str, Tensor]
) -> list[Fitted]:
    """See :class:`Fit`: in this process, each client with all of torch's threads."""
    before, fitted = deepcopy(model.state_dict()), []
    for client, seed in zip(clients, seeds, strict=True):
        fitted.append(_fit(model, client, seed, zeros))
        model.load_state_dict(before)
    return fitted


@contextmanager
def fitting(workers: int) -> Iterator[Fit]:
    """Within, a :class:`Fit` by so many processes at once; by 1 it is :func:`one_by_one`.

    Each has one thread, so what comes out is the same, bit for bit, for any number of processes above 1. They are
    started afresh ("spawn"), so that they may use a GPU: a script that calls this needs ``if __name__ == "__main__":``.

    Raises:
        ConfigError: ``workers`` isn't above 0; or, from the :class:`Fit`, model or client can't be sent to a process.
        FedmendError: from the :class:`Fit`: a process died; and what a client's training raises.
    """
    if workers < 1:
        raise ConfigError(f"workers must be 1 or more; got {workers}")
    if workers == 1:
        yield one_by_one
        return
    theirs, ours = Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(str(Path.cwd()), theirs),
    )
    for _ in range(workers):
        pool.submit(int)  # so that they start now, beside what comes before the first round

    def at_once(
        model: nn.Module, clients: Sequence[Client], seeds: Sequence[int], zeros: Mapping[str, Tensor]
    ) -> list[Fitted]:
        shared, packed = _packed((model, dict(zeros))), [_packed(client) for client in clients]
        largest_first = sorted(range(len(clients)), key=lambda index: -len(packed[index]))
        try:
            answers = {
                index: pool.submit(_fit_packed, shared, packed[index], seeds[index])
                for index in largest_first
            }
            return [pickle.loads(answers[index].result()) for index in range(len(clients))]
        except BrokenProcessPool as error:
            raise FedmendError(
                "a worker process died, perhaps for want of memory; try fewer --workers (a run goes on with --resume)"
            ) from error

    try:
        yield at_once
    except BaseException:
        ours.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _fit(model: nn.Module, client: Client, seed: int, zeros: Mapping[str, Tensor]) -> Fitted:
    with held(model, zeros):
        update = client.fit(model, seed)
    return update, {k: v.clone() for k, v in model.state_dict().items() if not v.is_floating_point()}


def _packed(content: Any) -> bytes:
    """As bytes, and by hand: multiprocessing would pass tensors in shared memory, of which a container has little."""
    try:
        return pickle.dumps(content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the model can't be sent to a worker process ({error}); take one worker (--workers 1), or define "
            "its classes and functions at the top of a module"
        ) from error


def _fit_packed(shared: bytes, client: bytes, seed: int) -> bytes:
    model, zeros = pickle.loads(shared)
    return pickle.dumps(_fit(model, pickle.loads(client), seed, zeros))


def _start(folder: str, pipe: Connection) -> None:
    """Make a worker ready. It ends, in the middle of its work, when its parent does or closes its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.insert(0, folder)  # where an architecture's own module may be
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()


def _end_with(pipe: Connection) -> None:
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)
