from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedmend.checkpoints import read_trigger, save_state, save_trigger
from fedmend.errors import CheckpointError
from fedmend.triggers import Patch


def test_trigger_round_trip(tmp_path: Path) -> None:
    trigger = Patch(torch.rand(1, 4, 4), torch.rand(3, 4, 4))
    save_trigger(trigger, tmp_path / "t.safetensors")
    back = read_trigger(tmp_path / "t.safetensors")
    assert torch.equal(back.mask, trigger.mask)
    assert torch.equal(back.pattern, trigger.pattern)


@pytest.mark.parametrize(
    "state",
    [
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
