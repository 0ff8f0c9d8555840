from typing import Any

import numpy as np
import pytest
import torch

from fedmend.integrations.client_metrics import finite_numbers


def test_finite_numbers_stay() -> None:
    metrics = {"accuracy": 0.5, "examples": 10, "loss": np.float32(0.25)}
    assert finite_numbers(metrics) == {"accuracy": 0.5, "examples": 10.0, "loss": 0.25}


@pytest.mark.parametrize(
    "value",
    [10**400, float("nan"), -float("inf"), "0.5", None, torch.ones(2), np.ones(2), 1j],
    ids=lambda value: type(value).__name__,
)
def test_what_can_not_be_averaged_is_left_out(value: Any) -> None:
    assert finite_numbers({"accuracy": 0.5, "other": value}) == {"accuracy": 0.5}


@pytest.mark.parametrize("metrics", [None, [0.5], "accuracy", {1: 0.5}])
def test_metrics_without_names_are_none(metrics: Any) -> None:
    assert finite_numbers(metrics) == {}
