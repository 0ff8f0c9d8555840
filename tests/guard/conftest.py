import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the networks beside this file

import guarded_nets

from fedmend.guard import Guard


@pytest.fixture
def guard(tmp_path: Path) -> Callable[..., Guard]:
    """Makes a guard with the detector of marks, one history for all; keywords are of the policy but for ``guard``."""

    def make(guard: dict[str, Any] | None = None, **policy: Any) -> Guard:
        return guarded_nets.new_guard(tmp_path / "history", guard, **policy)

    return make
