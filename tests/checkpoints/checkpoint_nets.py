"""A network to read checkpoints into, and what must hold of a file that can't be read."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fedmend.checkpoints import load_checkpoint
from fedmend.errors import CheckpointError


def net(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, classes))


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def refused(path: Path, message: str) -> None:
    """Reading fails with one clear line, and a model is left as it was."""
    model, twin = net(), net()
    twin.load_state_dict(model.state_dict())
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path, model)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))
    assert str(path) in str(caught.value)
    assert same(model, twin)
