"""Worker processes in which several clients of a round train at once."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import Pipe, current_process, get_context
from multiprocessing.forkserver import ensure_running, set_forkserver_preload
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from fedmend.errors import ConfigError, FedmendError, OutputError
from fedmend.federation import worker_process
from fedmend.federation.client_fit import Fit, Fitted, Refused, RoundPlan, fit_one_by_one
from fedmend.federation.clients import Client
from fedmend.user_code import modules_in

MOST_WORKERS = 61  # Windows can't wait for more processes


def check_workers(workers: int) -> None:
    """Check a number of worker processes.

    Raises:
        ConfigError: it is below 1; or a worker, rerunning an unguarded script, asks for workers.
    """
    if workers < 1:
        raise ConfigError(f"workers must be 1 or more; got {workers}")
    if workers > 1 and getattr(current_process(), "_inheriting", False):
        raise ConfigError('a script that asks for workers must do so under if __name__ == "__main__":')


def can_be_sent(model: nn.Module) -> bool:
    """Whether the model can be sent to a worker process: its classes and functions are at the top level of modules."""
    try:
        _packed(model)
    except ConfigError:
        return False
    return True


@contextmanager
def client_workers(workers: int) -> Iterator[Fit]:
    """Yields a :class:`Fit` that trains in that many processes; with 1, it is :func:`fit_one_by_one`.

    Each process has one thread, so the result is the same, bit for bit, for any number of processes above 1. They
    share no memory with this process (see :func:`begin_start`), so they may use a GPU; a script that calls this needs
    ``if __name__ == "__main__":``. Clients and updates are exchanged through files in the system's temporary folder:
    with a pipe, a process that dies while writing would leave the other end waiting.

    Raises:
        ConfigError: see :func:`check_workers`; or, from the :class:`Fit`, a model, client or task can't be sent.
        OutputError: from the :class:`Fit`: the files can't be written.
        FedmendError: from the :class:`Fit`: a process died or couldn't be started, or a client's training failed.
    """
    check_workers(workers)
    if workers == 1:
        yield fit_one_by_one
        return
    with worker_pool(workers) as (pool, folder):
        yield _FitAtOnce(pool, folder)


@contextmanager
def worker_pool(workers: int) -> Iterator[tuple[ProcessPoolExecutor, Path]]:
    """Yields that many processes with one thread each, and a folder for their files.

    They end with this process, even in the middle of a task, and on an error in this context at once. They import from
    the current folder only what this process has.

    Raises:
        ConfigError: see :func:`check_workers`.
    """
    check_workers(workers)
    start, here = begin_start(), str(Path.cwd())
    with TemporaryDirectory(prefix="fedmend-") as folder, _away_from_the_current_folder() as environment:
        theirs, ours = Pipe(duplex=False)
        pool = ProcessPoolExecutor(
            min(workers, MOST_WORKERS),
            mp_context=get_context(start),
            initializer=worker_process.start,
            initargs=(here, modules_in(here), environment, Path(folder), theirs),
        )
        try:
            if start == "spawn":
                _start_now(pool, workers)
            yield pool, Path(folder)
        except BaseException:
            ours.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            ours.close()
            theirs.close()


@dataclass(frozen=True)
class _FitAtOnce:
    """A :class:`Fit` that trains in the processes of a pool."""

    pool: ProcessPoolExecutor
    folder: Path
    calls: Iterator[int] = field(default_factory=count)

    def __call__(
        self, model: nn.Module, clients: Sequence[Client], plan: RoundPlan
    ) -> list[Fitted | Refused]:
        try:
            return self._fit(model, clients, plan)
        except BrokenProcessPool as error:
            raise FedmendError(
                "a worker process died: it ran out of memory (try fewer workers), or the script that asks for workers "
                'has no if __name__ == "__main__":'
            ) from error
        except (EOFError, ConnectionError) as error:
            raise _not_started(error) from error
        except OSError as error:
            raise OutputError(
                f"can't write the worker processes' files to {self.folder}: {error.strerror}; free some space, set "
                "TMPDIR to another folder, or use one worker (--workers 1)"
            ) from error

    def _fit(self, model: nn.Module, clients: Sequence[Client], plan: RoundPlan) -> list[Fitted | Refused]:
        # Numbered by call: after a failure, an earlier call's workers may still write files.
        call = next(self.calls)
        shared = self.folder / f"{call}-shared"
        files = [self.folder / f"{call}-{index}" for index in range(len(clients))]
        shared.write_bytes(_packed((model, plan)))
        packed = {number: _packed(client) for number, client in enumerate(clients)}
        numbers = {}
        for number in sorted(packed, key=lambda index: -len(packed[index])):
            files[number].write_bytes(packed.pop(number))
            numbers[self.pool.submit(worker_process.fit_file, shared, files[number])] = number
        self.pool.submit(int)  # otherwise the death of the last process started may go unnoticed
        fitted = {}
        for future in as_completed(numbers):
            future.result()
            file = files[numbers[future]]
            fitted[numbers[future]] = pickle.loads(file.read_bytes())
            file.unlink()
        shared.unlink()
        return [fitted[number] for number in range(len(files))]


def begin_start() -> str:
    """Start the fork server early and in the background, since importing torch takes seconds.

    Returns:
        How to start workers: "forkserver", from one process that imports everything once for all workers; or "spawn"
        (nothing started yet), if there is no fork server: on systems other than Linux, where forking isn't safe with
        some libraries, or if the path of the temporary folder is too long for a socket.
    """
    if sys.platform == "linux":
        with suppress(OSError), _interrupts_ignored(), _away_from_the_current_folder():
            set_forkserver_preload(["fedmend.federation.worker_imports"])
            ensure_running()
            return "forkserver"
    return "spawn"


def _start_now(pool: ProcessPoolExecutor, workers: int) -> None:
    """Start spawned workers in the background."""
    try:
        with _interrupts_ignored():
            for _ in range(workers):
                pool.submit(int)
    except (EOFError, OSError) as error:
        raise _not_started(error) from error


def _not_started(error: Exception) -> FedmendError:
    return FedmendError(f"worker processes can't be started ({error}); use one worker (--workers 1)")


def _packed(content: Any) -> bytes:
    try:
        return pickle.dumps(content)
    except Exception as error:  # a module's own __reduce__ may raise anything
        raise ConfigError(
            f"the model, a client or its task can't be sent to a worker process ({error}); use one worker "
            "(--workers 1), or define their classes and functions at the top level of a module"
        ) from error


@contextmanager
def _away_from_the_current_folder() -> Iterator[dict[str, str]]:
    """Makes Python processes started in this context not import from the current folder; yields the environment before.

    Python's own modules start them with ``python -c``, which would run a file called, say, ``random.py`` there.
    """
    before = dict(os.environ)
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield before
    finally:
        if "PYTHONSAFEPATH" in before:
            os.environ["PYTHONSAFEPATH"] = before["PYTHONSAFEPATH"]
        else:
            os.environ.pop("PYTHONSAFEPATH", None)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Makes processes started in this context ignore Ctrl-C, which their parent handles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
