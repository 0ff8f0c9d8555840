import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_federation.py

import tiny_federation


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of tiny images."""
    images, labels = tiny_federation.images()
    path = tmp_path_factory.mktemp("tiny") / "tiny.npz"
    np.savez(path, images=images.numpy(), labels=labels.numpy())
    return str(path)


@pytest.fixture
def tables(source: str) -> Callable[..., dict[str, Any]]:
    """The tables of a comparison; what is given goes into ``[compare]``."""

    def make(**compare: Any) -> dict[str, Any]:
        return tiny_federation.tables(source) | {"compare": compare}

    return make
