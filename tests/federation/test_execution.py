from typing import Any

import pytest
import torch

from fedmend.errors import ConfigError
from fedmend.federation import Execution


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"workers": -1}, "workers: .*got -1"),
        ({"workers": 0}, "workers: .*got 0"),
        ({"workers": 1.5}, "workers: .*got 1.5"),
        ({"workers": "2"}, "workers: .*got '2'"),
        ({"device": "nosuch"}, "there is no device 'nosuch'; expected one such as cpu"),
        ({"device": None}, "there is no device None"),
    ],
)
def test_where_nothing_can_be_computed_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Execution(**values)


def test_the_least_and_the_automatic_number_of_workers_are_taken() -> None:
    assert Execution("cpu", 1).workers == 1
    assert Execution(torch.device("cpu"), None).workers is None
