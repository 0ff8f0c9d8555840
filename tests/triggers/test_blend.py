import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.triggers import Blend, NoiseBlend


def test_blending_by_hand() -> None:
    blend = Blend(torch.tensor([[[1.0, 0.0]]]), 0.25)
    images = torch.tensor([[[[0.2, 0.8]]], [[[1.0, 0.0]]]])
    assert torch.allclose(blend.apply(images), torch.tensor([[[[0.4, 0.6]]], [[[1.0, 0.0]]]]))


def test_full_opacity_shows_the_pattern_alone() -> None:
    pattern = torch.rand(3, 4, 5)
    assert torch.equal(Blend(pattern, 1.0).apply(torch.rand(2, 3, 4, 5)), pattern.expand(2, 3, 4, 5))


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"this trigger is for images of shape \(C, H, W\) = \(1, 4, 5\)"):
        Blend(torch.rand(1, 4, 5), 0.5).apply(torch.rand(2, 3, 4, 5))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (torch.rand(4, 5), r"\(C, H, W\)"),
        (torch.ones(1, 4, 5, dtype=torch.uint8), "float pattern"),
        (torch.full((1, 4, 5), 1.1), r"in \[0, 1\]"),
        (torch.full((1, 4, 5), torch.nan), "NaN"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Blend(pattern, 0.5)


@pytest.mark.parametrize("opacity", [0, -0.1, 1.1, float("nan")])
def test_an_opacity_out_of_range_is_refused(opacity: float) -> None:
    with pytest.raises(ConfigError, match="opacity"):
        Blend(torch.rand(1, 4, 5), opacity)
    with pytest.raises(ConfigError, match="NoiseBlend: opacity"):
        NoiseBlend((1, 4, 5), opacity=opacity)


def test_the_seed_alone_decides_on_the_noise() -> None:
    images = torch.zeros(1, 3, 8, 8)
    first = NoiseBlend((3, 8, 8), opacity=0.5, seed=1).apply(images)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert torch.equal(NoiseBlend((3, 8, 8), opacity=0.5, seed=1).apply(images), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(NoiseBlend((3, 8, 8), opacity=0.5, seed=2).apply(images), first)
    assert 0 <= float(first.min()) < 0.1 < 0.4 < float(first.max()) <= 0.5
