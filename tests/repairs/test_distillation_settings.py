from dataclasses import asdict

import pytest

from fedmend.errors import ConfigError
from fedmend.repairs import Distillation


@pytest.mark.parametrize(
    "wrong",
    [
        *({"lr": 0.0}, {"lr": float("nan")}, {"lr": float("inf")}, {"decay": 0.0}, {"decay": -1.0}),
        *({"temperature": 0.0}, {"max_gradient": 0.0}, {"max_gradient": float("inf")}),
        *({"disturbed_weight": -0.1}, {"disturbed_weight": float("nan")}, {"disturbed_weight": float("inf")}),
        *({"stamped_fraction": -0.1}, {"stamped_fraction": 1.1}, {"stamped_fraction": float("nan")}),
        *({"pixel_noise": -0.1}, {"pixel_noise": 1.0}, {"pixel_noise": float("nan")}),
    ],
    ids=str,
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="Distillation: "):
        Distillation(**wrong)


@pytest.mark.parametrize(
    "edge", [{"disturbed_weight": 0.0}, {"stamped_fraction": 1.0}, {"pixel_noise": 0.0}], ids=str
)
def test_settings_at_the_edge(edge: dict[str, float]) -> None:
    made = asdict(Distillation(**edge))
    assert {name: made[name] for name in edge} == edge
