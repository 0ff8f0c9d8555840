import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for the networks beside this file

import guarded_nets

from fedmend.guard import Guard


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def guard(tmp_path: Path) -> Callable[..., Guard]:
    """Makes a guard with the detector of marks, one history for all; keywords are of the policy but for ``guard``."""

    def make(guard: dict[str, Any] | None = None, **policy: Any) -> Guard:
        return guarded_nets.new_guard(tmp_path / "history", guard, **policy)

    return make
