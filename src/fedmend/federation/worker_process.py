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
from fedmend.federation.client_fit import RoundPlan, fit_client
from fedmend.user_code import FolderFinder


def start(
    folder: str, modules: tuple[str, ...], environment: dict[str, str], files: Path, pipe: Connection
) -> None:
    """Set up a worker. It exits, even mid-task, when its parent exits or closes the pipe.

    Args:
        folder: the parent's current folder.
        modules: those that the parent imported from there, such as an architecture's; nothing else is.
        environment: the parent's; the fork server's may be outdated.
        files: the folder of files; removed on exit, since a killed parent can't.
        pipe: this end; the parent holds the other.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent handles Ctrl-C
    os.environ.clear()
    os.environ.update(environment)
    sys.meta_path.insert(0, FolderFinder(folder, modules))
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(pipe, files), daemon=True).start()


def fit_file(shared: Path, file: Path) -> None:
    """Train the client in ``file``, and replace the file's content with what the client sends.

    Args:
        shared: holds the model and the round's plan.
        file: holds the client.
    """
    try:
        copier, plan = _read_shared(shared)
        fitted = fit_client(copier.copy(), pickle.loads(file.read_bytes()), plan)
    except FedmendError:
        raise
    except Exception:  # any other exception may not be picklable
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
    """Read once per worker and call, since clients may be many and small."""
    model, plan = pickle.loads(file.read_bytes())
    return _Copier(model), plan


class _Copier:
    """Copies a module; five times as fast as ``deepcopy`` for small ones, since all but tensors is pickled once."""

    def __init__(self, model: nn.Module) -> None:
        content = BytesIO()
        pickler = _WithoutTensors(content)
        pickler.dump(model)
        self.rest, self.tensors = content.getvalue(), pickler.tensors

    def copy(self) -> nn.Module:
        """Make a copy; tied tensors stay tied."""
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
