import pytest
import torch
from torch import Tensor

from fedmend.detection.search.chunking import in_chunks, in_parts

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


def features_and_logits(images: Tensor) -> tuple[Tensor, Tensor]:
    features = images.flatten(1).sin()
    return features, (2 * features[:, :3]).exp()


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_model_in_parts_is_the_same_function(at_once: int) -> None:
    results = []
    for model in (features_and_logits, in_parts(features_and_logits, at_once)):
        images = IMAGES.clone().requires_grad_()
        features, logits = model(images)
        loss = (WEIGHTS[:, None] * features).square().sum() + logits.log().sum(1).square().sum()
        results.append((features, logits, *torch.autograd.grad(loss, images)))
    for whole, parts in zip(*results, strict=True):
        assert torch.allclose(whole, parts)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_model_in_parts_never_keeps_more_than_one_of_them(with_gradient: bool) -> None:
    seen = []

    def counted(images: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((len(images), torch.is_grad_enabled() and images.requires_grad))
        return features_and_logits(images)

    images = IMAGES.clone().requires_grad_(with_gradient)
    features, _ = in_parts(counted, 2)(images)
    forward = [(2, False), (2, False), (1, False)]
    assert seen == forward
    if with_gradient:
        features.sum().backward()
        assert seen == [*forward, (2, True), (2, True), (1, True)]


def test_the_same_tensor_may_be_features_and_logits() -> None:
    def squares(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = images.flatten(1).square()
        return logits, logits

    images = IMAGES.clone().requires_grad_()
    features, logits = in_parts(squares, 2)(images)
    (features + 2 * logits).sum().backward()
    assert images.grad is not None
    assert torch.allclose(images.grad, 6 * IMAGES)
