"""Training on a single image or none, and of models with random code of their own."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.errors import DataError, ModelError
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten

SGD = LocalTraining(epochs=1, batch_size=8, optimizer="sgd", lr=0.1, momentum=0.0)
PIXELS = planted.SIDE**2


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4))


def flat_norm() -> nn.Sequential:
    """Batch normalisation without pixels to average over."""
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(PIXELS), nn.Linear(PIXELS, 4))


def net(make: Any = linear) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def trained(model: nn.Module, training: LocalTraining, count: int = 16, seed: int = 0) -> Tensor:
    training(model, *planted.draw(count, 0), seed)
    return flatten(model.state_dict())


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (3, 1)])
def test_batch_normalisation_uses_its_running_statistics_for_a_single_image(
    count: int, batch_size: int
) -> None:
    """Those of a layer before it, which could go on with one image, stay as well."""
    model = nn.Sequential(nn.BatchNorm2d(1), *net(flat_norm))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained(model, replace(SGD, batch_size=batch_size), count=count)
    after = model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {f"{layer}.{name}" for layer in "02" for name, _ in net(flat_norm)[1].named_buffers()}
    assert all(module.training for module in model.modules())


def test_a_model_that_needs_more_than_one_image_says_so() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (PIXELS, 1)), nn.InstanceNorm1d(PIXELS))
    with pytest.raises(ModelError, match="single image"):
        trained(nn.Sequential(*model, nn.Flatten(), nn.Linear(PIXELS, 4)), SGD, count=1)


def test_a_client_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="at least one image; got none"):
        trained(net(), SGD, count=0)


class Noisy(nn.Module):
    """As some write it: with every global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()

    def forward(self, images: Tensor) -> Tensor:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
        logits: Tensor = self.linear(images + noise)
        return logits


def test_the_global_generators_of_python_numpy_and_torch_start_from_the_seed() -> None:
    same = net(Noisy).state_dict()
    found = []
    for seed in (4, 4, 5):
        model = net(Noisy)
        model.load_state_dict(same)
        random.random(), np.random.rand(), torch.rand(1)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        found.append(trained(model, SGD, seed=seed))
        after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        assert after == before
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
