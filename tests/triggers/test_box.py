import pytest
import torch

from fedmend.errors import ConfigError
from fedmend.triggers import Box


def test_a_grey_box_covers_its_pixels_and_no_others() -> None:
    patch = Box((3, 6, 7), height=2, width=3, top=1, left=4, color=0.5).patch
    expected = torch.zeros(1, 6, 7)
    expected[0, 1:3, 4:7] = 1
    assert torch.equal(patch.mask, expected)
    assert torch.equal(patch.pattern, (expected * 0.5).expand(3, 6, 7))


def test_an_rgb_box_has_a_value_for_each_channel() -> None:
    patch = Box((3, 4, 4), height=1, width=1, top=0, left=0, color=(0.25, 0.5, 1)).patch
    assert patch.pattern[:, 0, 0].tolist() == [0.25, 0.5, 1]
    assert float(patch.pattern.sum()) == 1.75


def test_a_chequered_box_starts_with_its_colour() -> None:
    patch = Box((1, 5, 5), height=2, width=3, top=3, left=2, chequered=True).patch
    assert patch.pattern[0, 3:, 2:].tolist() == [[1, 0, 1], [0, 1, 0]]
    assert patch.size == 6


def test_a_box_touches_the_border_but_never_crosses_it() -> None:
    assert Box((1, 3, 4), height=3, width=4, top=0, left=0).patch.size == 12
    for place in ({"top": 2, "left": 0}, {"top": 0, "left": 3}):
        with pytest.raises(ConfigError, match=r"a box of 3x3 pixels .* got 4x5"):
            Box((1, 4, 5), **place)


def test_an_rgb_colour_on_grey_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 channels; these have 1"):
        Box((1, 9, 9), color=(1, 0, 0))


@pytest.mark.parametrize(
    ("color", "message"),
    [
        (1.5, "color.grey: .* less than or equal to 1; got 1.5"),
        ("red", "color.grey: input should be a valid number; got 'red'"),
        ((0.0, -0.1, 0.0), "color.rgb.1: .* greater than or equal to 0; got -0.1"),
        ([0.0, 1.0], "color.rgb.2: a value is required"),
    ],
)
def test_what_is_no_colour_is_refused(color: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Box((3, 9, 9), color=color)  # type: ignore[arg-type]
