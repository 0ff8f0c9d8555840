import os
import sys
from pathlib import Path

import pytest

# Before torch is imported. Tiny networks are faster on one core, tests run side by side, and a process and those that
# it starts must add in the same order.
os.environ["OMP_NUM_THREADS"] = "1"

sys.path.insert(0, str(Path(__file__).parent))  # for planted.py

import planted
import planted_nine


@pytest.fixture(scope="session")
def world() -> planted.World:
    """A clean reference, a backdoored model and its clean twin, trained once; tests leave them as they are."""
    return planted.make_world()


@pytest.fixture(scope="session")
def nine() -> planted.World:
    """The same with nine classes, for detectors that compare classes with each other."""
    return planted_nine.make_world()
