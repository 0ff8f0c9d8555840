import sys
from pathlib import Path

import pytest
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside this file
sys.path.insert(0, str(Path(__file__).parents[1] / "federation"))  # for tiny_data.py and tiny_nets.py


@pytest.fixture(scope="session")
def backdoored() -> nn.Module:
    """The network of striped.py; tests leave it as it is."""
    from striped import trained_with_a_backdoor

    return trained_with_a_backdoor()
