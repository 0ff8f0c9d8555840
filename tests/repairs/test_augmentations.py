import pytest
import torch
from torch import Tensor

from fedmend.repairs.augmentations import affine, gamma, optical_distortion, shrink_and_restore
from fedmend.seeds import generator

IMAGES = torch.rand(3, 2, 6, 8, generator=generator(0))
SQUARE = torch.rand(2, 1, 5, 5, generator=generator(1))
NOTHING = torch.zeros(3), torch.ones(3), torch.zeros(3, 2)


def each(value: float, count: int) -> Tensor:
    return torch.full((count,), value)


def test_nothing_is_changed_by_nothing() -> None:
    assert torch.allclose(affine(IMAGES, *NOTHING), IMAGES, atol=1e-5)
    assert torch.allclose(optical_distortion(IMAGES, torch.zeros(3)), IMAGES, atol=1e-5)
    assert torch.allclose(gamma(IMAGES, torch.ones(3)), IMAGES)
    assert torch.allclose(shrink_and_restore(IMAGES, 1.0), IMAGES)


def test_a_quarter_turn_is_counterclockwise() -> None:
    turned = affine(SQUARE, each(90.0, 2), torch.ones(2), torch.zeros(2, 2))
    assert torch.allclose(turned, torch.rot90(SQUARE, 1, (2, 3)), atol=1e-5)


def test_a_turn_keeps_the_proportions_of_a_wide_image() -> None:
    """Two pixels right of the centre becomes two pixels above it."""
    wide = torch.zeros(1, 1, 5, 9)
    wide[0, 0, 2, 6] = 1
    turned = affine(wide, each(90.0, 1), torch.ones(1), torch.zeros(1, 2))
    assert turned[0, 0, 0, 4] == pytest.approx(1.0, abs=1e-4)
    assert float(turned.sum()) == pytest.approx(1.0, abs=1e-4)


def test_a_shift_to_the_right_and_down() -> None:
    """A pixel is a quarter of half the width of 8, and a third of half the height of 6."""
    shift = torch.tensor([[2 / 8, 2 / 6]]).expand(3, 2)
    moved = affine(IMAGES, torch.zeros(3), torch.ones(3), shift)
    assert torch.allclose(moved[:, :, 1:, 1:], IMAGES[:, :, :-1, :-1], atol=1e-5)
    assert torch.allclose(moved[:, :, 0, 0], IMAGES[:, :, 0, 0], atol=1e-5)  # the border repeats


def test_a_scale_above_1_enlarges() -> None:
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1
    larger = affine(dot, torch.zeros(1), each(2.0, 1), torch.zeros(1, 2))
    assert float(larger.sum()) == pytest.approx(4.0, abs=1e-4)


def test_a_distortion_by_hand() -> None:
    """A pixel at radius 0.4 shows what was at 0.4 (1 + 6.25 * 0.16) = 0.8, which is two pixels from the centre."""
    bent = optical_distortion(SQUARE, each(6.25, 2))
    assert torch.allclose(bent[:, :, 2, 2], SQUARE[:, :, 2, 2], atol=1e-5)
    assert torch.allclose(bent[:, :, 2, 3], SQUARE[:, :, 2, 4], atol=1e-5)
    assert torch.allclose(bent[:, :, 1, 2], SQUARE[:, :, 0, 2], atol=1e-5)


def test_each_image_has_its_own_change() -> None:
    assert gamma(torch.full((2, 1, 1, 1), 0.25), torch.tensor([0.5, 2.0])).flatten().tolist() == [0.5, 0.0625]
    turned = affine(SQUARE, torch.tensor([0.0, 90.0]), torch.ones(2), torch.zeros(2, 2))
    assert torch.allclose(turned[0], SQUARE[0], atol=1e-5)
    assert not torch.allclose(turned[1], SQUARE[1], atol=1e-2)


def test_shrinking_blurs_a_pixel() -> None:
    dot = torch.zeros(1, 1, 8, 8)
    dot[0, 0, 3, 3] = 1
    blurred = shrink_and_restore(dot, 0.5)
    assert blurred.shape == dot.shape
    assert float(blurred.max()) < 0.5
    assert shrink_and_restore(dot, 0.01).shape == dot.shape


def test_pixels_stay_in_range_and_images_as_they_were() -> None:
    kept = IMAGES.clone()
    drawn = each(33.0, 3), each(0.7, 3), torch.full((3, 2), 0.3)
    for changed in (
        affine(IMAGES, *drawn),
        optical_distortion(IMAGES, each(0.5, 3)),
        gamma(IMAGES, each(3.0, 3)),
    ):
        assert bool(((changed >= 0) & (changed <= 1)).all())
    assert torch.equal(IMAGES, kept)
