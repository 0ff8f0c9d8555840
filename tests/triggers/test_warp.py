import pytest
import torch

from fedmend.triggers import Warp

SHAPE = (1, 12, 16)


def test_a_field_of_one_control_point_moves_all_pixels_alike() -> None:
    """With one point every offset is 1 or -1 after division by its own size: here strength / H of half the image."""
    warp = Warp(SHAPE, strength=6.0, grid=1)
    down = warp.field[0, :, :, 1] - torch.linspace(-1, 1, 12)[:, None]
    inner = (warp.field.abs() < 1).all(-1)[0]
    assert down[inner].abs().mean().item() == pytest.approx(0.5, abs=0.2)


def test_offsets_have_a_mean_size_of_one_at_the_control_points() -> None:
    warp = Warp((1, 4, 4), strength=0.4, grid=4)
    side = torch.linspace(-1, 1, 4)
    columns, rows = torch.meshgrid(side, side, indexing="xy")
    moved = (warp.field[0] - torch.stack([columns, rows], -1)) * 4 / 0.4
    inside = warp.field[0].abs() < 1
    raw = 2 * torch.rand(1, 2, 4, 4, generator=torch.Generator()) - 1  # the same range
    assert float(raw.abs().max()) <= 1
    assert bool((moved[inside].abs() <= 2.7).all())


def test_it_is_faint_and_smooth() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 12, 16).contiguous()
    warped = Warp(SHAPE).apply(ramp)
    assert 0 < float((warped - ramp).abs().max()) < 0.1
    still = torch.full((1, *SHAPE), 0.3)
    torch.testing.assert_close(Warp(SHAPE).apply(still), still)


def test_the_seed_draws_another_warp() -> None:
    images = torch.rand(2, *SHAPE)
    assert not torch.equal(Warp(SHAPE).apply(images), Warp(SHAPE, seed=1).apply(images))
