import pytest
import torch
from torch import Tensor, nn

from fedmend.detection.search.features import FeatureMap, far_from_zero
from fedmend.errors import ModelError
from fedmend.inference import frozen


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 4, 3)
    )


class Two(nn.Module):
    """A layer that isn't used, one that is used twice and one that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.twice, self.pair = nn.Linear(4, 4), nn.Linear(4, 4), nn.LSTM(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.twice(self.twice(images.flatten(1)))
        return answer + self.pair(answer)[0]


IMAGES = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_logits_are_features_by_default() -> None:
    model = net()
    features, logits = FeatureMap(model)(IMAGES)
    assert features is logits
    assert torch.equal(logits, model(IMAGES))


def test_a_layers_features_are_its_outputs_flattened() -> None:
    model = net().eval()
    features, logits = FeatureMap(model, "0")(IMAGES)
    assert torch.equal(features, model[0](IMAGES).flatten(1))
    assert features.shape == (5, 32)
    assert torch.equal(logits, model(IMAGES))
    assert not model[0]._forward_hooks


def test_gradients_reach_the_images() -> None:
    images = IMAGES.clone().requires_grad_()
    FeatureMap(net(), "2")(images)[0].sum().backward()
    assert images.grad is not None
    assert bool(images.grad.any())


def test_of_a_layer_used_twice_the_last_output_counts() -> None:
    model, images = Two(), torch.rand(2, 1, 2, 2)
    features, _ = FeatureMap(model, "twice")(images)
    assert torch.equal(features, model.twice(model.twice(images.flatten(1))))


@pytest.mark.parametrize("layer", ["unused", "pair"])
def test_a_layer_without_a_tensor_is_refused(layer: str) -> None:
    model = Two()
    with pytest.raises(ModelError, match=f"'{layer}' returned no tensor; choose another, or 'logits'"):
        FeatureMap(model, layer)(torch.rand(2, 1, 2, 2))
    assert not getattr(model, layer)._forward_hooks


def test_an_unknown_layer_is_refused_before_anything_runs() -> None:
    with pytest.raises(ModelError, match="no layer 'fc'"):
        FeatureMap(net(), "fc")


def test_hooks_are_gone_after_an_error() -> None:
    model = net()
    with pytest.raises(RuntimeError):
        FeatureMap(model, "0")(torch.rand(1, 1, 9, 9))
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("fails", [False, True])
def test_frozen_puts_modes_and_gradients_back(fails: bool) -> None:
    first, second = net().train(), net().eval()
    first[1].eval()
    first[4].bias.requires_grad_(False)
    second[4] = first[4]  # a layer of both
    error = ValueError if fails else None
    try:
        with frozen(first, second):
            for model in (first, second):
                assert not any(module.training for module in model.modules())
                assert not any(parameter.requires_grad for parameter in model.parameters())
            if error:
                raise error
    except ValueError:
        assert fails
    assert [module.training for module in first] == [True, False, True, True, True]
    assert not any(module.training for module in list(second)[:4])
    assert [parameter.requires_grad for parameter in first.parameters()] == [True] * 5 + [False]
    assert [parameter.requires_grad for parameter in second.parameters()] == [True] * 5 + [False]


def test_batch_statistics_stay_as_they_are() -> None:
    model = net().train()
    with frozen(model):
        model(IMAGES)
    assert int(model[1].num_batches_tracked) == 0


def test_images_stay_as_they_are_though_a_model_works_in_place() -> None:
    class InPlace(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.sub_(0.5).flatten(1)

    images = torch.ones(2, 1, 2, 2)
    FeatureMap(InPlace())(images)
    assert bool((images == 1).all())


def test_logits_can_be_centred() -> None:
    model = net().eval()
    features, logits = FeatureMap(model, centred=True)(IMAGES)
    assert features is logits
    assert torch.allclose(logits, model(IMAGES) - model(IMAGES).mean(1, keepdim=True))


@pytest.mark.parametrize(("added", "far"), [(0, False), (10, False), (1000, True), (-10_000, True)])
def test_a_number_added_to_all_logits_is_noticed(added: float, far: bool) -> None:
    logits = torch.tensor([[9.0, -3, 0], [-2, 5, 1]])
    assert far_from_zero(logits + added) is far
