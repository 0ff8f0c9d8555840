"""The hooks in ``conftest.py`` seed modules, fixtures and tests, each by its own name."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmend.seeds import derive_seed

DRAWN_ON_IMPORT = torch.rand(4)


def expected(name: str) -> Tensor:
    return torch.rand(4, generator=torch.Generator().manual_seed(derive_seed(0, name)))


@pytest.fixture(scope="module", params=["one", "two"])
def shared(request: pytest.FixtureRequest) -> tuple[int, Tensor]:
    return request.param_index, torch.rand(4)


def test_a_module(request: pytest.FixtureRequest) -> None:
    assert torch.equal(DRAWN_ON_IMPORT, expected(request.node.parent.nodeid))


@pytest.mark.parametrize("time", [1, 2])
def test_a_fixture_and_a_test_that_shares_it(
    shared: tuple[int, Tensor], time: int, request: pytest.FixtureRequest
) -> None:
    index, drawn = shared
    assert torch.equal(torch.rand(4), expected(f"{request.node.parent.nodeid}::{request.node.name}"))
    assert torch.equal(drawn, expected(f"{request.node.parent.nodeid}::shared::{index}"))


def test_the_other_generators(request: pytest.FixtureRequest) -> None:
    seed = derive_seed(0, f"{request.node.parent.nodeid}::{request.node.name}")
    assert random.random() == random.Random(seed).random()
    assert np.random.random() == np.random.RandomState(seed % 2**32).random()
