import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported. Tiny networks are faster on one core, tests run side by side, and a process and those that
# it starts must add in the same order.
os.environ["OMP_NUM_THREADS"] = "1"

sys.path.insert(0, str(Path(__file__).parent))  # for planted.py and the like

import numpy as np
import torch

import planted
import planted_nine
from fedmend.seeds import derive_seed
from worker_groups import pytest_collection_modifyitems as pytest_collection_modifyitems


def pytest_configure() -> None:
    """A shell's background jobs ignore these signals, and so would the tests and the processes that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Networks and images are drawn from the global generators. Each module, fixture and test gets its own seed, so that
# neither the order of the tests nor the process that runs them changes what they draw.


def _seed(name: str) -> None:
    seed = derive_seed(0, name)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> None:
    """Seed what a module draws when it is imported."""
    _seed(collector.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Seed what a fixture draws."""
    _seed(f"{fixturedef.baseid}::{fixturedef.argname}::{getattr(request, 'param_index', 0)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Seed what a test draws, whoever made the fixtures of its module; xdist adds groups to ``nodeid``."""
    _seed(f"{item.parent.nodeid if item.parent else ''}::{item.name}")


@pytest.fixture(scope="session")
def world() -> planted.World:
    """A clean reference, a backdoored model and its clean twin, trained once; tests leave them as they are."""
    return planted.make_world()


@pytest.fixture(scope="session")
def nine() -> planted.World:
    """The same with nine classes, for detectors that compare classes with each other."""
    return planted_nine.make_world()


_LISTS: list[list[str]] = []


@pytest.fixture(scope="session")
def _audited() -> None:
    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if _LISTS and event in ("open", "os.listdir", "os.scandir", "glob.glob"):
            for paths in _LISTS:
                paths.append(str(arguments[0]))

    sys.addaudithook(note)  # it can't be removed


@pytest.fixture
def opened(_audited: None) -> Iterator[list[str]]:
    """The files and folders that this process has opened or listed in this test."""
    paths: list[str] = []
    _LISTS.append(paths)
    yield paths
    _LISTS.clear()
