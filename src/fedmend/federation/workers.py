"""How a round's clients train: one after the other in this process, or several at once in worker processes."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import lru_cache
from io import BytesIO
from itertools import count
from multiprocessing import Pipe, current_process, get_context
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running, set_forkserver_preload
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, FedmendError, OutputError
from fedmend.federation.clients import Client, ClientUpdate
from fedmend.pruning import held

Fitted: TypeAlias = tuple[ClientUpdate, dict[str, Tensor]]
"""What a client sends, and its model's integer buffers."""

MOST_WORKERS = 61  # more processes can't be waited for on Windows


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


def check_workers(workers: int) -> None:
    """Check a number of worker processes.

    Raises:
        ConfigError: it isn't above 0; or a worker asks for workers, since it runs the script that started it.
    """
    if workers < 1:
        raise ConfigError(f"workers must be 1 or more; got {workers}")
    if workers > 1 and getattr(current_process(), "_inheriting", False):
        raise ConfigError('a script that asks for workers must do so under if __name__ == "__main__":')


def can_be_sent(model: nn.Module) -> bool:
    """Whether a worker process can be given this model: its classes and functions are at the top of modules."""
    try:
        _packed(model)
    except ConfigError:
        return False
    return True


@contextmanager
def fitting(workers: int) -> Iterator[Fit]:
    """Within, a :class:`Fit` by so many processes at once; by 1 it is :func:`one_by_one`.

    Each has one thread, so what comes out is the same, bit for bit, for any number of processes above 1. They don't
    have this process's memory (see :func:`begin_start`), so that they may use a GPU: a script that calls this needs
    ``if __name__ == "__main__":``. What they are given and give goes through files in the system's folder for temporary
    ones: through a pipe, a process that dies half-way would leave the other end waiting.

    Raises:
        ConfigError: see :func:`check_workers`; or, from the :class:`Fit`, model or client can't be sent to a process.
        OutputError: from the :class:`Fit`: the files can't be written.
        FedmendError: from the :class:`Fit`: a process died or couldn't be started; and what a client's training raises.
    """
    check_workers(workers)
    if workers == 1:
        yield one_by_one
        return
    start = begin_start()
    with TemporaryDirectory(prefix="fedmend-") as folder:
        theirs, ours = Pipe(duplex=False)
        calls = count()
        pool = ProcessPoolExecutor(
            min(workers, MOST_WORKERS),
            mp_context=get_context(start),
            initializer=_start,
            initargs=(Path.cwd(), dict(os.environ), Path(folder), theirs),
        )

        def at_once(
            model: nn.Module, clients: Sequence[Client], seeds: Sequence[int], zeros: Mapping[str, Tensor]
        ) -> list[Fitted]:
            # by its number, so that what an earlier call's clients still write, after one of them failed, isn't read
            call = next(calls)
            shared = Path(folder, f"{call}-shared")
            files = [Path(folder, f"{call}-{index}") for index in range(len(clients))]
            try:
                shared.write_bytes(_packed((model, dict(zeros))))
                packed = {number: _packed(client) for number, client in enumerate(clients)}
                numbers = {}
                for number in sorted(packed, key=lambda index: -len(packed[index])):
                    files[number].write_bytes(packed.pop(number))
                    numbers[pool.submit(_fit_file, shared, files[number], seeds[number])] = number
                pool.submit(int)  # else the death of the process started last may go unnoticed
                fitted = {}
                for answer in as_completed(numbers):
                    answer.result()
                    file = files[numbers[answer]]
                    fitted[numbers[answer]] = pickle.loads(file.read_bytes())
                    file.unlink()
                shared.unlink()
            except BrokenProcessPool as error:
                raise FedmendError(
                    "a worker process died: for want of memory (try fewer workers), or since the script that asks "
                    'for workers has no if __name__ == "__main__":'
                ) from error
            except (EOFError, ConnectionError) as error:
                raise _not_started(error) from error
            except OSError as error:
                raise OutputError(
                    f"can't write what worker processes are given and give to {folder}: {error.strerror}; make room, "
                    "let TMPDIR name another folder, or take one worker (--workers 1)"
                ) from error
            return [fitted[number] for number in range(len(files))]

        try:
            if start == "spawn":  # so that they start now, beside what comes before the first round
                try:
                    with _interrupts_ignored():
                        for _ in range(workers):
                            pool.submit(int)
                except (EOFError, OSError) as error:
                    raise _not_started(error) from error
            yield at_once
        except BaseException:
            ours.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            ours.close()
            theirs.close()


def _not_started(error: Exception) -> FedmendError:
    return FedmendError(f"worker processes can't be started ({error}); take one worker (--workers 1)")


def begin_start() -> str:
    """Begin what takes seconds before workers can be had: importing all they need. It goes on beside other work.

    Returns:
        How workers are to be started: "forkserver", from a process of its own that imports it once for all of them; or
        "spawn", each anew and nothing begun, where there is no such process: on another system than Linux, where
        forking isn't safe beside some libraries, or where the path of the folder for temporary files is too long for
        a socket.
    """
    if sys.platform == "linux":
        with suppress(OSError), _interrupts_ignored():
            set_forkserver_preload(["fedmend.federation.worker_imports"])
            ensure_running()
            return "forkserver"
    return "spawn"


def _fit(model: nn.Module, client: Client, seed: int, zeros: Mapping[str, Tensor]) -> Fitted:
    with held(model, zeros):
        update = client.fit(model, seed)
    return update, {k: v.clone() for k, v in model.state_dict().items() if not v.is_floating_point()}


def _packed(content: Any) -> bytes:
    try:
        return pickle.dumps(content)
    except Exception as error:  # a module's own way of being pickled may raise anything
        raise ConfigError(
            f"the model can't be sent to a worker process ({error}); take one worker (--workers 1), or define "
            "its classes and functions at the top of a module"
        ) from error


def _fit_file(shared: Path, file: Path, seed: int) -> None:
    """In a worker: train the client in a file, and put what it sends in its place."""
    try:
        copier, zeros = _shared(shared)
        fitted = _fit(copier.copy(), pickle.loads(file.read_bytes()), seed, zeros)
    except FedmendError:
        raise
    except Exception:  # another one might not survive the way back to the parent
        raise RuntimeError(
            f"a client's training failed in a worker process:\n{traceback.format_exc()}"
        ) from None
    file.write_bytes(pickle.dumps(fitted))


@lru_cache(maxsize=1)
def _shared(file: Path) -> tuple[_Copier, Mapping[str, Tensor]]:
    """A call's model, to be copied, and its zeros: read once a worker, for its clients may be many and small."""
    model, zeros = pickle.loads(file.read_bytes())
    return _Copier(model), zeros


class _Copier:
    """Makes copies of a module; small ones in a fifth of ``deepcopy``'s time, for all but tensors is pickled once."""

    def __init__(self, model: nn.Module) -> None:
        content = BytesIO()
        pickler = _WithoutTensors(content)
        pickler.dump(model)
        self.rest, self.tensors = content.getvalue(), pickler.tensors

    def copy(self) -> nn.Module:
        model: nn.Module = _WithTensors(BytesIO(self.rest), deepcopy(self.tensors)).load()
        return model


class _WithoutTensors(pickle.Pickler):
    """Puts numbers in the places of tensors, which it collects."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, Tensor):
            return None
        if id(obj) not in self._numbers:
            self._numbers[id(obj)] = len(self.tensors)
            self.tensors.append(obj)
        return self._numbers[id(obj)]


class _WithTensors(pickle.Unpickler):
    """Puts tensors in the places of their numbers."""

    def __init__(self, file: IO[bytes], tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: Any) -> Tensor:
        tensor: Tensor = self._tensors[pid]
        return tensor


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started within take no notice of Ctrl-C: their parent does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(modules: Path, environment: dict[str, str], files: Path, pipe: Connection) -> None:
    """Make a worker ready. It ends, in the middle of its work, when its parent does or closes its end of the pipe.

    What it has been forked from has the environment of an earlier time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent heeds Ctrl-C
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(modules))  # where an architecture's own module may be
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(pipe, files), daemon=True).start()


def _end_with(pipe: Connection, files: Path) -> None:
    with suppress(EOFError, OSError):
        pipe.recv()
    shutil.rmtree(files, ignore_errors=True)  # which a parent that was killed leaves behind
    os._exit(1)
