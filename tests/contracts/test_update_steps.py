"""What every update step must do. A new kind is a row in ROWS."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmend.attacks import UPDATE_STEPS, UpdateContext, UpdateStep, update_step_from_table

SIZE = 200
PARAMETERS = torch.arange(SIZE) % 4 > 0


@dataclass(frozen=True)
class Row:
    """A table and what its step does.

    Attributes:
        grows: the update's norm rises; otherwise it falls.
        scales: every parameter's change is multiplied by the same number.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    grows: bool = False
    scales: bool = True

    def make(self) -> UpdateStep:
        return update_step_from_table({"kind": self.kind, **self.settings})


ROWS = [
    Row("amplify", {"factor": 3.0}, grows=True),
    Row("project", {"radius": 0.5}),
    Row("own_attack:make", {"fraction": 0.2}, scales=False),
]
every_step = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)


@pytest.fixture(autouse=True)
def _in_the_examples_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own code is looked for in the current folder."""
    monkeypatch.chdir(Path(__file__).parents[2] / "examples")


def delta_and_context() -> tuple[torch.Tensor, UpdateContext]:
    numbers = torch.randn(2, SIZE, generator=torch.Generator().manual_seed(0))
    return numbers[0], UpdateContext(PARAMETERS, numbers[1], seed=1)


def test_every_kind_has_a_row() -> None:
    assert set(UPDATE_STEPS) <= {row.kind for row in ROWS}


@every_step
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_update_becomes_a_new_update_like_it(row: Row, dtype: torch.dtype) -> None:
    delta, context = delta_and_context()
    delta, copies = delta.to(dtype), (delta.to(dtype).clone(), context.global_vector.clone())
    changed = row.make()(delta, context)
    assert torch.equal(delta, copies[0])
    assert torch.equal(context.global_vector, copies[1])
    assert (changed.shape, changed.dtype, changed.device) == (delta.shape, delta.dtype, delta.device)
    assert bool(changed.isfinite().all())
    assert not torch.equal(changed, delta)


@every_step
def test_buffers_stay_as_trained(row: Row) -> None:
    delta, context = delta_and_context()
    assert torch.equal(row.make()(delta, context)[~PARAMETERS], delta[~PARAMETERS])


@every_step
def test_its_norm_rises_or_falls_as_its_row_says(row: Row) -> None:
    delta, context = delta_and_context()
    changed = row.make()(delta, context)
    assert bool(changed[PARAMETERS].norm() > delta[PARAMETERS].norm()) == row.grows
    ratio = changed[PARAMETERS] / delta[PARAMETERS]
    assert bool((ratio.std() < 1e-5).item()) == row.scales


@every_step
def test_it_is_deterministic_and_workers_get_the_same(row: Row) -> None:
    delta, context = delta_and_context()
    state = torch.get_rng_state()
    changed = row.make()(delta, context)
    assert torch.equal(row.make()(delta, context), changed)
    assert torch.equal(pickle.loads(pickle.dumps(row.make()))(delta, context), changed)
    assert torch.equal(torch.get_rng_state(), state)


@every_step
def test_no_change_at_all_stays_none(row: Row) -> None:
    _, context = delta_and_context()
    assert torch.equal(row.make()(torch.zeros(SIZE), context), torch.zeros(SIZE))
