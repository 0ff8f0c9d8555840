import sys
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from fedmend.detection import LargerTriggers, larger_triggers
from fedmend.federation import clients

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside this file
sys.path.insert(0, str(Path(__file__).parents[1] / "federation"))  # for tiny_data.py and tiny_nets.py


@pytest.fixture(autouse=True)
def _short_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients search for triggers in a few steps."""
    short = partial(larger_triggers, search=LargerTriggers(steps=12))
    monkeypatch.setattr(clients, "larger_triggers", short)


@pytest.fixture(scope="session")
def backdoored() -> nn.Module:
    """The network of striped.py; tests leave it as it is."""
    from striped import trained_with_a_backdoor

    return trained_with_a_backdoor()
