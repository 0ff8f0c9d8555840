from pathlib import Path

import pytest
import torch

from fedmend.checkpoints import read_state, save_state
from fedmend.errors import CheckpointError, OutputError


def test_saving_refuses_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_state({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"'a'.*complex64"):
        save_state({"a": torch.ones(1, dtype=torch.complex64)}, path)
    with pytest.raises(CheckpointError, match="of type str"):
        save_state({"a": "text"}, path)  # type: ignore[dict-item]
    with pytest.raises(OutputError):
        save_state({"a": torch.ones(1)}, path / "below-a-file")
    assert read_state(path)["a"].item() == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]
