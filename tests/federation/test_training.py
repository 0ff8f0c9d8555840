from dataclasses import replace

import pytest
import torch
from tiny_data import image_set
from tiny_nets import conv, flat_norm, linear
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.federation import TrainingConfig
from fedmend.federation.training import train
from fedmend.metrics import accuracy
from fedmend.parameters import flatten

SGD = TrainingConfig(epochs=1, batch_size=8, optimizer="sgd", lr=0.1, momentum=0.0)


def net(make: type | object = linear, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(4, 1, (8, 16))  # type: ignore[operator, no-any-return]


def trained(model: nn.Module, config: TrainingConfig, count: int = 16, seed: int = 0) -> Tensor:
    images = image_set(count)
    train(model, images.images, images.labels, config, seed)
    return flatten(model.state_dict())


class Counting(nn.Module):
    """Remembers the batches that it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear(4, 1, (8, 16))
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        assert self.training
        assert images.dtype == torch.float32
        self.batches.append(images.detach().clone())
        logits: Tensor = self.linear(images)
        return logits


def test_two_steps_of_sgd_by_hand() -> None:
    model, images = net(), image_set(8)
    weight, bias = (parameter.detach().double() for parameter in model.parameters())
    pixels = (images.images.double() / 255).flatten(1)
    for _ in range(2):
        shares = (pixels @ weight.T + bias).softmax(1)
        error = (shares - nn.functional.one_hot(images.labels, 4)) / 8
        weight, bias = weight - 0.1 * error.T @ pixels, bias - 0.1 * error.sum(0)
    trained(model, replace(SGD, epochs=2), count=8)
    assert torch.allclose(model[1].weight.double(), weight, atol=1e-6)
    assert torch.allclose(model[1].bias.double(), bias, atol=1e-6)


def test_weight_decay_and_momentum_reach_the_optimizer() -> None:
    plain = trained(net(), SGD)
    for changed in (
        TrainingConfig(1, 8, "sgd", 0.1, 0.0, weight_decay=0.1),
        TrainingConfig(1, 8, "sgd", 0.1, 0.9),
        TrainingConfig(1, 8, "sgd", 0.2, 0.0),
        TrainingConfig(2, 8, "sgd", 0.1, 0.0),
        TrainingConfig(1, 16, "sgd", 0.1, 0.0),
        TrainingConfig(1, 8, "adam", 0.1),
    ):
        assert not torch.allclose(trained(net(), changed), plain)


def test_the_optimizer_starts_afresh_every_time() -> None:
    config = TrainingConfig(1, 16, "adam", 0.01)
    model = net()
    before = flatten(model.state_dict())
    trained(model, config)
    # Adam's first step has size lr wherever the gradient isn't nil; with memory a second one would be smaller.
    step = flatten(model.state_dict()) - before
    second = trained(model, config) - before - step
    assert float(step.abs().max()) == pytest.approx(0.01, rel=1e-3)
    assert float(second.abs().median()) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_learns(optimizer: str) -> None:
    model, images = net(conv), image_set(64)
    train(model, images.images, images.labels, TrainingConfig(8, 8, optimizer, 0.01), 0)  # type: ignore[arg-type]
    assert accuracy(model, images.images, images.labels) > 0.9


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = trained(net(conv), SGD, seed=3)
    torch.manual_seed(2)
    assert torch.equal(trained(net(conv), SGD, seed=3), first)
    assert not torch.equal(trained(net(conv), SGD, seed=4), first)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    trained(net(conv), SGD)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_epoch_sees_every_image_once_in_another_order() -> None:
    model = Counting()
    trained(model, TrainingConfig(2, 8, "sgd", 0.1), count=20)
    assert [len(batch) for batch in model.batches] == [8, 8, 4] * 2
    images = (image_set(20).images.float() / 255).flatten(1)
    orders = []
    for epoch in (model.batches[:3], model.batches[3:]):
        seen = torch.cat(epoch).flatten(1)
        orders.append([int((images == image).all(1).nonzero()) for image in seen])
        assert sorted(orders[-1]) == list(range(20))
    assert orders[0] != orders[1]


def test_a_single_left_over_image_is_left_out() -> None:
    model = Counting()
    trained(model, SGD, count=17)
    assert [len(batch) for batch in model.batches] == [8, 8]
    trained(net(flat_norm), SGD, count=17)


def test_a_client_with_one_image_trains_on_it() -> None:
    model = Counting()
    trained(model, SGD, count=1)
    assert [len(batch) for batch in model.batches] == [1]


def test_batches_of_one_are_trained_on_if_asked_for() -> None:
    model = Counting()
    trained(model, TrainingConfig(1, 1, "sgd", 0.1), count=3)
    assert [len(batch) for batch in model.batches] == [1, 1, 1]


def test_one_image_is_too_few_for_batch_normalisation_over_nothing_else() -> None:
    with pytest.raises(ModelError, match="single image"):
        trained(net(flat_norm), SGD, count=1)


def test_frozen_parameters_stay() -> None:
    model = net(conv)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    trained(model, SGD)
    assert torch.equal(model[0].weight, before)
    assert not model[0].weight.requires_grad
    assert model[5].weight.requires_grad


def test_images_are_left_alone() -> None:
    images = image_set(8)
    copies = images.images.clone(), images.labels.clone()
    train(net(), images.images, images.labels, SGD, 0)
    assert torch.equal(images.images, copies[0])
    assert torch.equal(images.labels, copies[1])


def test_divergence_is_told_and_not_returned() -> None:
    with pytest.raises(ModelError, match=r"diverged.*\[training\] lr"):
        trained(net(), TrainingConfig(3, 8, "sgd", 1e38))
