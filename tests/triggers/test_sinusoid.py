import math

import pytest
import torch

from fedmend.errors import ConfigError, DataError
from fedmend.triggers import Sinusoid


def test_one_period_over_four_columns_by_hand() -> None:
    images = torch.full((1, 1, 2, 4), 0.5)
    stamped = Sinusoid(amplitude=0.2, frequency=1.0).apply(images)
    assert torch.allclose(stamped, torch.tensor([0.5, 0.7, 0.5, 0.3]).expand(1, 1, 2, 4), atol=1e-6)


def test_it_is_clamped_where_images_are_black_or_white() -> None:
    stamped = Sinusoid(amplitude=0.2, frequency=1.0).apply(torch.tensor([[[[0.0] * 4], [[1.0] * 4]]]))
    assert torch.allclose(stamped[0, :, 0], torch.tensor([[0, 0.2, 0, 0], [1, 1, 1, 0.8]]), atol=1e-6)


def test_the_frequency_is_in_periods_across_any_width() -> None:
    for width in (24, 60):
        wave = Sinusoid(amplitude=0.1, frequency=6).apply(torch.full((1, 3, 1, width), 0.5))[0, 0, 0] - 0.5
        columns = torch.arange(width, dtype=torch.float64)
        expected = 0.1 * (2 * math.pi * 6 * columns / width).sin()
        assert torch.allclose(wave.double(), expected, atol=1e-6)


@pytest.mark.parametrize(("amplitude", "frequency"), [(0.0, 6.0), (1.1, 6.0), (0.1, 0.0), (0.1, math.inf)])
def test_settings_out_of_range_are_refused(amplitude: float, frequency: float) -> None:
    with pytest.raises(ConfigError, match="Sinusoid: "):
        Sinusoid(amplitude, frequency)


def test_stored_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="divide bytes by 255"):
        Sinusoid().apply(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
