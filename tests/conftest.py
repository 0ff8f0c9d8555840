import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for planted.py

import planted
import planted_nine


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny networks are faster on one core, and a subprocess and its parent add in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world() -> planted.World:
    """A clean reference, a backdoored model and its clean twin, trained once; tests leave them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = planted.make_world()
    torch.set_num_threads(before)
    return made


@pytest.fixture(scope="session")
def nine() -> planted.World:
    """The same with nine classes, for detectors that compare classes with each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = planted_nine.make_world()
    torch.set_num_threads(before)
    return made
