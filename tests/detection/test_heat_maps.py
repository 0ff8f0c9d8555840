"""Features of heat maps by hand-worked examples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection.heat_maps import inconstancy, maps_of_classes, roughness, sparseness
from fedmend.errors import ModelError

PIXELS = torch.rand(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.tensor([[1.0, -2, 0, 0, 0, 4, 0, 0], [0, 0, 3, 0, 0, 0, -6, 0]])


def linear() -> nn.Module:
    """Two channels of 2x2 pixels to two classes."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 2, bias=False))
    net[1].weight.data = WEIGHTS.clone()
    return net.requires_grad_(False)


def test_a_heat_map_is_the_gradient_s_size_scaled_to_one() -> None:
    """Of a linear model: the weights, the larger of the two channels."""
    maps = maps_of_classes(linear(), PIXELS, 2, 2**30)
    assert maps.shape == (2, 3, 2, 2)
    for image in range(3):
        assert maps[0, image].tolist() == [[0.25, 1.0], [0.0, 0.0]]
        assert maps[1, image].tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_parts_that_fit_the_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = maps_of_classes(linear(), PIXELS, 2, 2**30)
    monkeypatch.setattr("fedmend.detection.heat_maps.images_at_once", lambda *_: 2)
    assert torch.equal(maps_of_classes(linear(), PIXELS, 2, 2**30), whole)


def test_the_logits_scale_does_not_matter() -> None:
    net = linear()
    scaled = nn.Sequential(net, Times())
    assert torch.allclose(maps_of_classes(scaled, PIXELS, 2, 2**30), maps_of_classes(net, PIXELS, 2, 2**30))


class Times(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return 1000 * logits


def test_a_gradient_that_is_no_number_is_refused() -> None:
    net = linear()
    net[1].weight.data[0, 0] = float("inf")
    with pytest.raises(ModelError, match="gradients are NaN or infinite"):
        maps_of_classes(net, PIXELS, 2, 2**30)


def test_sparseness_is_the_mean() -> None:
    assert float(sparseness(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))) == 0.5


def test_roughness_is_the_mean_absolute_laplacian() -> None:
    spike = torch.zeros(3, 3)
    spike[1, 1] = 1
    assert float(roughness(spike)) == pytest.approx((4 + 4 * 1) / 9)
    corner = torch.zeros(3, 3)
    corner[0, 0] = 1  # at the edge only two neighbours differ
    assert float(roughness(corner)) == pytest.approx((2 + 2 * 1) / 9)
    assert float(roughness(torch.full((3, 3), 0.7))) == 0.0


def test_inconstancy_is_the_share_of_pixels_that_differ_between_two_images() -> None:
    first, second = torch.tensor([[1.0, 0], [0, 0]]), torch.tensor([[0.0, 1], [0, 0]])
    maps = torch.stack([torch.stack([first, first, second]), torch.stack([first, first, first])])
    # of three pairs two differ, in 2 of 4 pixels
    assert inconstancy(maps).tolist() == pytest.approx([2 / 3 * 0.5, 0.0])
