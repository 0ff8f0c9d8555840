from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedmend.checkpoints import read_patch, read_trigger, save_state, save_trigger
from fedmend.errors import CheckpointError
from fedmend.triggers import Addition, Patch


def test_trigger_round_trip(tmp_path: Path) -> None:
    trigger = Patch(torch.rand(1, 4, 4), torch.rand(3, 4, 4))
    save_trigger(trigger, tmp_path / "t.safetensors")
    for read in (read_trigger, read_patch):
        back = read(tmp_path / "t.safetensors")
        assert isinstance(back, Patch)
        assert torch.equal(back.mask, trigger.mask)
        assert torch.equal(back.pattern, trigger.pattern)


def test_additions_too(tmp_path: Path) -> None:
    trigger = Addition(2 * torch.rand(3, 4, 4) - 1)
    save_trigger(trigger, tmp_path / "t.safetensors")
    back = read_trigger(tmp_path / "t.safetensors")
    assert isinstance(back, Addition)
    assert torch.equal(back.delta, trigger.delta)
    with pytest.raises(CheckpointError, match=r"t\.safetensors holds an addition; expected a patch"):
        read_patch(tmp_path / "t.safetensors")


@pytest.mark.parametrize(
    "state",
    [
        {"delta": torch.full((1, 2, 2), 1.5)},
        {"delta": torch.ones(2, 2)},
        {"delta": torch.ones(1, 2, 2), "mask": torch.ones(1, 2, 2)},
        {"mask": torch.ones(1, 2, 2)},
        {"mask": torch.ones(1, 2, 2), "pattern": torch.full((1, 2, 2), 2.0)},
        {"mask": torch.ones(1, 2, 2), "pattern": torch.full((1, 2, 2), float("nan"))},
        {"mask": torch.ones(2, 2), "pattern": torch.ones(1, 2, 2)},
    ],
)
def test_triggers_that_are_none(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_state(state, tmp_path / "t.safetensors")
    with pytest.raises(CheckpointError, match=r"t\.safetensors holds no"):
        read_trigger(tmp_path / "t.safetensors")
