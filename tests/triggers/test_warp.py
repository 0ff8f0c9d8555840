import pytest
import torch

from fedmend.seeds import generator
from fedmend.triggers import Warp

SHAPE = (1, 12, 16)


@pytest.mark.parametrize("grid", [1, 4])
def test_the_field_by_hand(grid: int) -> None:
    """On an image of as many pixels as control points nothing is interpolated."""
    warp = Warp((1, 4, 4), strength=0.4, grid=grid, seed=2)
    raw = 2 * torch.rand(1, 2, grid, grid, generator=generator(2, "warp")) - 1
    offsets = (raw / raw.abs().mean()).expand(1, 2, 4, 4)[0]
    side = torch.linspace(-1, 1, 4)
    expected = torch.stack([side.expand(4, 4), side[:, None].expand(4, 4)]) + 0.4 / 4 * offsets
    torch.testing.assert_close(warp.field[0].permute(2, 0, 1), expected.clamp(-1, 1))


def test_it_is_faint_and_smooth() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 12, 16).contiguous()
    warped = Warp(SHAPE).apply(ramp)
    assert 0 < float((warped - ramp).abs().max()) < 0.1
    still = torch.full((1, *SHAPE), 0.3)
    torch.testing.assert_close(Warp(SHAPE).apply(still), still)


def test_the_seed_draws_another_warp() -> None:
    images = torch.rand(2, *SHAPE)
    assert not torch.equal(Warp(SHAPE).apply(images), Warp(SHAPE, seed=1).apply(images))
