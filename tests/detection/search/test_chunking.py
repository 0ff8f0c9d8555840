import pytest
import torch
from torch import Tensor

from fedmend.detection.search.chunking import in_chunks

IMAGES = torch.linspace(0, 1, 5 * 3 * 4).view(5, 3, 2, 2)
WEIGHTS = torch.tensor([1.0, -2.0, 3.0, 0.5, 4.0])


def loss(images: Tensor, rows: slice) -> Tensor:
    return WEIGHTS[rows] * images.square().sum((1, 2, 3))


@pytest.mark.parametrize("at_once", [1, 2, 3, 4])
def test_values_and_gradients_are_those_of_all_images_together(at_once: int) -> None:
    values, gradients = [], []
    for most in (at_once, len(IMAGES)):
        images = IMAGES.clone().requires_grad_()
        values.append(in_chunks(loss, images, most))
        weighted = values[-1] * torch.arange(5)
        gradients.append(torch.autograd.grad(weighted.sum(), images)[0])
    assert torch.allclose(values[0], values[1])
    assert torch.allclose(gradients[0], gradients[1])


@pytest.mark.parametrize("with_gradient", [True, False])
def test_no_more_images_than_allowed_go_through_at_once(with_gradient: bool) -> None:
    seen = []

    def counted(images: Tensor, rows: slice) -> Tensor:
        seen.append(len(images))
        return loss(images, rows)

    in_chunks(counted, IMAGES.clone().requires_grad_(with_gradient), 2)
    assert seen == [2, 2, 1]
