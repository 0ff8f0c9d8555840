"""What runs in a worker process: a client's training, read from files and written to files."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import threading
import traceback
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from fedmend.errors import FedmendError
from fedmend.federation.rounds import RoundPlan, fit_client


def start(modules: Path, environment: dict[str, str], files: Path, pipe: Connection) -> None:
    """Make a worker ready. It ends, even in the middle of its work, when its parent ends or closes the pipe.

    Args:
        modules: the parent's current folder, where an architecture's own module may be.
        environment: the parent's; the process that this one was forked from has that of an earlier time.
        files: the folder of files, which a killed parent leaves behind.
        pipe: one end of it; the parent holds the other.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent handles Ctrl-C
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(modules))
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(pipe, files), daemon=True).start()


def fit_file(shared: Path, file: Path) -> None:
    """Train the client in ``file``, and replace it by what the client sends.

    Args:
        shared: holds the model and the round's plan.
        file: holds the client.
    """
    try:
        copier, plan = _read_shared(shared)
        fitted = fit_client(copier.copy(), pickle.loads(file.read_bytes()), plan)
    except FedmendError:
        raise
    except Exception:  # another one might not survive the way back to the parent
        raise RuntimeError(
            f"a client's training failed in a worker process:\n{traceback.format_exc()}"
        ) from None
    file.write_bytes(pickle.dumps(fitted))


def _end_with(pipe: Connection, files: Path) -> None:
    with suppress(EOFError, OSError):
        pipe.recv()
    shutil.rmtree(files, ignore_errors=True)
    os._exit(1)


@lru_cache(maxsize=1)
def _read_shared(file: Path) -> tuple[_Copier, RoundPlan]:
    """Read once for each worker and call, since clients may be many and small."""
    model, plan = pickle.loads(file.read_bytes())
    return _Copier(model), plan


class _Copier:
    """Makes copies of a module: small ones in a fifth of ``deepcopy``'s time, since it pickles all but tensors once."""

    def __init__(self, model: nn.Module) -> None:
        content = BytesIO()
        pickler = _WithoutTensors(content)
        pickler.dump(model)
        self.rest, self.tensors = content.getvalue(), pickler.tensors

    def copy(self) -> nn.Module:
        """A copy; tied tensors stay tied."""
        model: nn.Module = _WithTensors(BytesIO(self.rest), deepcopy(self.tensors)).load()
        return model


class _WithoutTensors(pickle.Pickler):
    """Replaces tensors by numbers, and collects them."""

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
    """Replaces the numbers by tensors."""

    def __init__(self, file: IO[bytes], tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: Any) -> Tensor:
        tensor: Tensor = self._tensors[pid]
        return tensor
