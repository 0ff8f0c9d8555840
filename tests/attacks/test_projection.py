import pytest
import torch

from fedmend.attacks import Project, UpdateContext
from fedmend.errors import ConfigError

DELTA = torch.tensor([3.0, 100.0, -4.0])
CONTEXT = UpdateContext(torch.tensor([True, False, True]), torch.zeros(3), seed=0)


def test_a_large_update_is_scaled_down_to_the_radius_and_buffers_are_not() -> None:
    assert torch.allclose(Project(radius=1.0)(DELTA, CONTEXT), torch.tensor([0.6, 100.0, -0.8]))
    assert DELTA.tolist() == [3, 100, -4]


@pytest.mark.parametrize("radius", [5, 5.1, 1e9])
def test_a_small_update_stays_as_it_is(radius: float) -> None:
    assert torch.equal(Project(radius)(DELTA, CONTEXT), DELTA)


def test_no_change_at_all_stays_none() -> None:
    assert torch.equal(Project(1.0)(torch.zeros(3), CONTEXT), torch.zeros(3))


@pytest.mark.parametrize("radius", [0.0, -1.0, float("inf")])
def test_a_radius_out_of_range_is_refused(radius: float) -> None:
    with pytest.raises(ConfigError, match="Project: "):
        Project(radius)
