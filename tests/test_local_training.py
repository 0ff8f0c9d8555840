from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.errors import ConfigError, ModelError
from fedmend.evaluation import accuracy
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten

SGD = LocalTraining(epochs=1, batch_size=8, optimizer="sgd", lr=0.1, momentum=0.0)
PIXELS = planted.SIDE**2


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4))


def conv() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(4 * PIXELS, 4),
    )


def flat_norm() -> nn.Sequential:
    """Batch normalisation without pixels to average over, which can't be trained on a single image."""
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(PIXELS), nn.Linear(PIXELS, 4))


def two_convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 64, 4)
    )


def net(make: Callable[[], nn.Sequential] = linear) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def trained(model: nn.Module, training: LocalTraining, count: int = 16, seed: int = 0) -> Tensor:
    training(model, *planted.draw(count, 0), seed)
    return flatten(model.state_dict())


class Counting(nn.Module):
    """Remembers the batches that it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        assert self.training
        assert images.dtype == torch.float32
        self.batches.append(images.detach().clone())
        logits: Tensor = self.linear(images)
        return logits


def test_two_steps_of_sgd_by_hand() -> None:
    model, (images, labels) = net(), planted.draw(8, 0)
    weight, bias = (parameter.detach().double() for parameter in model.parameters())
    pixels = (images.double() / 255).flatten(1)
    for _ in range(2):
        predicted = (pixels @ weight.T + bias).softmax(1)
        error = (predicted - nn.functional.one_hot(labels, 4)) / 8
        weight, bias = weight - 0.1 * error.T @ pixels, bias - 0.1 * error.sum(0)
    trained(model, replace(SGD, epochs=2), count=8)
    assert torch.allclose(model[1].weight.double(), weight, atol=1e-6)
    assert torch.allclose(model[1].bias.double(), bias, atol=1e-6)


def test_weight_decay_and_momentum_reach_the_optimizer() -> None:
    plain = trained(net(), SGD)
    for changed in (
        LocalTraining(1, 8, "sgd", 0.1, 0.0, weight_decay=0.1),
        LocalTraining(1, 8, "sgd", 0.1, 0.9),
        LocalTraining(1, 8, "sgd", 0.2, 0.0),
        LocalTraining(2, 8, "sgd", 0.1, 0.0),
        LocalTraining(1, 16, "sgd", 0.1, 0.0),
        LocalTraining(1, 8, "adam", 0.1),
    ):
        assert not torch.allclose(trained(net(), changed), plain)


def test_the_optimizer_starts_afresh_every_time() -> None:
    adam = LocalTraining(1, 16, "adam", 0.01)
    model = net()
    before = flatten(model.state_dict())
    trained(model, adam)
    # Adam's first step has size lr wherever the gradient isn't nil; with memory a second one would be smaller.
    step = flatten(model.state_dict()) - before
    second = trained(model, adam) - before - step
    assert float(step.abs().max()) == pytest.approx(0.01, rel=1e-3)
    assert float(second.abs().median()) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_learns(optimizer: str) -> None:
    model, (images, labels) = net(conv), planted.draw(64, 0)
    LocalTraining(8, 8, optimizer, 0.01)(model, images, labels, 0)  # type: ignore[arg-type]
    assert accuracy(model, images, labels) > 0.9


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
    trained(model, LocalTraining(2, 8, "sgd", 0.1), count=20)
    assert [len(batch) for batch in model.batches] == [8, 8, 4] * 2
    images = (planted.draw(20, 0)[0].float() / 255).flatten(1)
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
    trained(model, LocalTraining(1, 1, "sgd", 0.1), count=3)
    assert [len(batch) for batch in model.batches] == [1, 1, 1]


def test_frozen_parameters_stay() -> None:
    model = net(conv)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    trained(model, SGD)
    assert torch.equal(model[0].weight, before)
    assert not model[0].weight.requires_grad
    assert model[5].weight.requires_grad


def test_images_are_left_alone() -> None:
    images, labels = planted.draw(8, 0)
    copies = images.clone(), labels.clone()
    SGD(net(), images, labels, 0)
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])


def test_divergence_is_told_and_not_returned() -> None:
    with pytest.raises(ModelError, match=r"diverged.*\[training\] lr"):
        trained(net(), LocalTraining(3, 8, "sgd", 1e38))


@pytest.mark.parametrize(
    ("per_epoch", "sizes"),
    [(None, [8, 8, 4]), (10, [8, 2]), (8, [8]), (9, [8]), (5, [5]), (1, [1]), (99, [8, 8, 4])],
)
def test_an_epoch_may_be_of_fewer_images(per_epoch: int | None, sizes: list[int]) -> None:
    model = Counting()
    trained(model, replace(SGD, epochs=3, images_per_epoch=per_epoch), count=20)
    assert [len(batch) for batch in model.batches] == sizes * 3


def test_each_epochs_images_are_drawn_anew() -> None:
    model = Counting()
    trained(model, LocalTraining(12, 8, "sgd", 0.1, images_per_epoch=8), count=20)
    images = (planted.draw(20, 0)[0].float() / 255).flatten(1)
    epochs = []
    for batch in model.batches:
        seen = [int((images == image).all(1).nonzero()) for image in batch.flatten(1)]
        assert len(set(seen)) == 8
        epochs.append(frozenset(seen))
    assert len(set(epochs)) > 10
    assert frozenset.union(*epochs) == set(range(20))


def test_soft_labels_by_hand() -> None:
    model, (images, _) = net(), planted.draw(8, 0)
    soft = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    weight, bias = (parameter.detach().double() for parameter in model.parameters())
    pixels = (images.double() / 255).flatten(1)
    error = ((pixels @ weight.T + bias).softmax(1) - soft) / 8
    SGD(model, images, soft, 0)
    assert torch.allclose(model[1].weight.double(), weight - 0.1 * error.T @ pixels, atol=1e-6)
    assert torch.allclose(model[1].bias.double(), bias - 0.1 * error.sum(0), atol=1e-6)


def test_soft_labels_that_are_sure_are_classes() -> None:
    (images, labels), hard, soft = planted.draw(20, 0), net(conv), net(conv)
    adam = LocalTraining(2, 8, "adam", 0.01)
    adam(hard, images, labels, 3)
    adam(soft, images, nn.functional.one_hot(labels, 4).float(), 3)
    assert torch.allclose(flatten(hard.state_dict()), flatten(soft.state_dict()), atol=1e-5)


def test_the_last_convolutions_weights_shrink_by_hand() -> None:
    """One step of SGD: the penalty adds lr times its weight times twice the weights, there and nowhere else."""
    ends = []
    for weight in (0.0, 0.3):
        model = net(two_convolutions)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        trained(model, replace(SGD, last_conv_l2=weight), count=8)
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        shrunk = 0.1 * 0.3 * 2 * before[name] if name == "2.weight" else 0
        assert torch.allclose(ends[1][name], value - shrunk, atol=1e-6)


def test_a_penalty_needs_a_convolution_and_changes_no_statistics() -> None:
    with pytest.raises(ModelError, match="runs no convolution"):
        trained(net(), replace(SGD, last_conv_l2=0.1))
    model = net(conv)
    penalized = trained(model, replace(SGD, last_conv_l2=1e-30), count=8)
    assert torch.equal(penalized, trained(net(conv), SGD, count=8))
    assert model.training


def test_noise_replaces_a_fraction_of_the_pixels_that_differs_by_image() -> None:
    model = Counting()
    trained(model, replace(SGD, batch_size=64, pixel_noise=0.5), count=64)
    images = (planted.draw(64, 0)[0].float() / 255).flatten(1)
    fractions, replaced = [], []
    for image in model.batches[0].flatten(1):
        same = images == image
        source = same.sum(1).argmax()
        fractions.append(1 - float(same[source].float().mean()))
        replaced.append(image[~same[source]])
    assert max(fractions) < 0.65  # half of 144 pixels, and what chance adds
    assert max(fractions) - min(fractions) > 0.3
    assert sum(fractions) / 64 == pytest.approx(0.25, abs=0.08)
    values = torch.cat(replaced)
    assert float((values == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert float((values == 1).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert 0 <= float(values.min()) <= float(values.max()) <= 1


def test_noise_depends_on_the_seed_and_none_is_none() -> None:
    noisy, again = (trained(net(), replace(SGD, pixel_noise=0.2), seed=1) for _ in range(2))
    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, trained(net(), SGD, seed=1))
    assert torch.equal(trained(net(), replace(SGD, pixel_noise=0.0), seed=1), trained(net(), SGD, seed=1))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr", -1),
        ("lr", 0.0),
        ("epochs", 0),
        ("optimizer", "rmsprop"),
        ("momentum", 1.0),
        ("pixel_noise", 1.0),
    ],
)
def test_settings_out_of_range_are_refused_in_python_too(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"LocalTraining: {setting}: .*; got {value!r}"):
        LocalTraining(**{setting: value})  # type: ignore[arg-type]
