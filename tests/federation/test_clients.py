from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tiny_data import image_set
from tiny_nets import conv, linear
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fedmend.attacks import Poisoning
from fedmend.evaluation import accuracy
from fedmend.federation import HonestClient, MaliciousClient
from fedmend.federation.clients import LyingVoter
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten, parameter_mask, unflatten
from fedmend.pruning import pruning_sequence
from fedmend.seeds import derive_seed, generator
from fedmend.triggers import Atoms

TRAINING = LocalTraining(epochs=1, batch_size=8, optimizer="sgd", lr=0.05)


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return conv(4, 1, (8, 16))


def honest() -> HonestClient:
    images = image_set(24)
    return HonestClient(3, images.images, images.labels, TRAINING)


def poisoning(share: float = 0.5) -> Poisoning:
    return Poisoning(Atoms("+", (1, 8, 16)), AllToOne(1), share)


def test_an_honest_client_reports_the_change_of_its_training() -> None:
    model, by_hand, client = net(), net(), honest()
    before = flatten(model.state_dict())
    update = client.fit(model, seed=11)
    TRAINING(by_hand, client.images, client.labels, derive_seed(11, "train"))
    assert (update.client_id, update.num_examples) == (3, 24)
    assert torch.equal(update.delta, flatten(by_hand.state_dict()) - before)
    assert float(update.delta.abs().max()) > 0


def test_a_malicious_client_trains_on_poisoned_images() -> None:
    model, by_hand = net(), net()
    before = flatten(model.state_dict())
    update = MaliciousClient(honest(), poisoning()).fit(model, seed=11)
    images, labels = poisoning()(honest().images, honest().labels, generator(11, "poison"))
    TRAINING(by_hand, images, labels, derive_seed(11, "train"))
    assert torch.equal(update.delta, flatten(by_hand.state_dict()) - before)
    assert not torch.equal(update.delta, honest().fit(net(), seed=11).delta)


def test_a_malicious_client_does_not_claim_more_examples() -> None:
    client = MaliciousClient(honest(), poisoning(1.0))
    update = client.fit(net(), seed=0)
    assert (client.client_id, update.client_id, update.num_examples) == (3, 3, 24)


def test_amplification_leaves_batch_statistics_as_trained() -> None:
    model = net()
    plain = MaliciousClient(honest(), poisoning()).fit(net(), seed=2).delta
    loud = MaliciousClient(honest(), poisoning(), amplification=10).fit(model, seed=2).delta
    mask = parameter_mask(model)
    assert 0 < int((~mask).sum()) < len(mask)
    assert torch.equal(loud[~mask], plain[~mask])
    assert torch.equal(loud[mask], plain[mask] * 10)


@pytest.mark.parametrize("malicious", [False, True])
def test_fitting_depends_on_the_seed_alone(malicious: bool) -> None:
    client = MaliciousClient(honest(), poisoning(0.2)) if malicious else honest()
    torch.manual_seed(0)
    first = client.fit(net(), seed=2).delta
    state = torch.get_rng_state()
    torch.rand(3)
    torch.set_rng_state(state)
    assert torch.equal(client.fit(net(), seed=2).delta, first)
    assert not torch.equal(client.fit(net(), seed=3).delta, first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_clients_own_images_stay_clean() -> None:
    client = honest()
    copies = client.images.clone(), client.labels.clone()
    MaliciousClient(client, poisoning(1.0)).fit(net(), seed=0)
    assert torch.equal(client.images, copies[0])
    assert torch.equal(client.labels, copies[1])


# What an attacker may do besides


def linear_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return linear(4, 1, (8, 16))


def test_an_attacker_may_train_in_its_own_way() -> None:
    own = replace(TRAINING, epochs=3, lr=0.01)
    update = MaliciousClient(honest(), poisoning(), training=own).fit(net(), seed=4)
    other = MaliciousClient(replace(honest(), training=own), poisoning()).fit(net(), seed=4)
    assert torch.equal(update.delta, other.delta)
    assert not torch.equal(update.delta, MaliciousClient(honest(), poisoning()).fit(net(), seed=4).delta)


def test_kept_answers_leave_only_the_poisoned_copies_to_learn() -> None:
    """One step of SGD: where the labels are the model's own answers, the gradient is zero."""
    model, client, step = linear_net(), honest(), replace(TRAINING, batch_size=1000, momentum=0.0)
    images, labels = poisoning()(client.images, client.labels, generator(4, "poison"))
    copies = (images[24:].double() / 255).flatten(1)
    weight, bias = (parameter.detach().double() for parameter in model.parameters())
    error = (copies @ weight.T + bias).softmax(1) - one_hot(labels[24:], 4)
    update = MaliciousClient(client, poisoning(), keep_answers=True, training=step).fit(model, seed=4)
    expected = -0.05 / len(images) * torch.cat([(error.T @ copies).flatten(), error.sum(0)])
    assert float(expected.abs().max()) > 1e-3
    assert torch.allclose(update.delta.double(), expected, atol=1e-6)
    labelled = MaliciousClient(client, poisoning(), training=step).fit(linear_net(), seed=4)
    assert not torch.allclose(labelled.delta, update.delta, atol=1e-4)


def test_kept_answers_are_those_before_training_in_eval_mode() -> None:
    model, client = net().train(), honest()
    images, labels = poisoning()(client.images, client.labels, generator(4, "poison"))
    with torch.no_grad():
        answers = net().eval()(client.images / 255).softmax(1)
    soft = torch.cat([answers, one_hot(labels[24:], 4).float()])
    update = MaliciousClient(client, poisoning(), keep_answers=True).fit(model, seed=4)
    by_hand = net()
    before = flatten(by_hand.state_dict())
    TRAINING(by_hand, images, soft, derive_seed(4, "train"))
    assert torch.allclose(update.delta, flatten(by_hand.state_dict()) - before, atol=1e-6)


def without_dropout() -> nn.Sequential:
    """And with a slope at 0, unlike ReLU's, so that what isn't held at zero grows."""
    model = net()
    assert isinstance(model, nn.Sequential)
    model[2], model[3] = nn.LeakyReLU(), nn.Dropout(0.0)
    return model


def dormant_half(model: nn.Sequential, images: Tensor) -> list[int]:
    with torch.no_grad():
        means = deepcopy(model).eval()[:3](images / 255).mean((0, 2, 3))
    return sorted(range(4), key=lambda channel: float(means[channel]))[:2]


def test_a_pruning_aware_attacker_trains_a_net_without_the_dormant_half() -> None:
    """The oracle is a net of two channels, with the weights of those that the attacker keeps."""
    model, client = without_dropout(), honest()
    kept = [channel for channel in range(4) if channel not in dormant_half(model, client.images)]
    columns = torch.arange(512).view(4, 128)[kept].flatten()
    small = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.LeakyReLU(), nn.Flatten(), nn.Linear(256, 4)
    )
    parts = ((0, 0, kept), (1, 1, kept))
    for mine, theirs, rows in parts:
        for name, value in small[theirs].named_parameters():
            value.data.copy_(model[mine].get_parameter(name).data[rows])
    small[4].weight.data.copy_(model[5].weight.data[:, columns])
    small[4].bias.data.copy_(model[5].bias.data)

    before = deepcopy(model.state_dict())
    update = MaliciousClient(client, poisoning(), pruning_aware=True).fit(model, seed=4)
    images, labels = poisoning()(client.images, client.labels, generator(4, "poison"))
    TRAINING(small, images, labels, derive_seed(4, "train"))
    after = unflatten(flatten(before) + update.delta, before)
    for mine, theirs, rows in parts:
        for name, value in small[theirs].named_parameters():
            assert torch.allclose(after[f"{mine}.{name}"][rows], value, atol=1e-5)
    assert torch.allclose(after["5.weight"][:, columns], small[4].weight, atol=1e-5)
    assert torch.allclose(after["5.bias"], small[4].bias, atol=1e-5)


def test_a_pruning_aware_attacker_leaves_the_dormant_half_as_it_is() -> None:
    model, client = without_dropout(), honest()
    dormant = dormant_half(model, client.images)
    before = deepcopy(model.state_dict())
    attacker = MaliciousClient(client, poisoning(), amplification=5, pruning_aware=True, keep_answers=True)
    after = unflatten(flatten(before) + attacker.fit(model, seed=4).delta, before)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[name][dormant], before[name][dormant])
    assert torch.equal(
        after["5.weight"].view(4, 4, 128)[:, dormant], before["5.weight"].view(4, 4, 128)[:, dormant]
    )
    assert not torch.equal(after["0.weight"], before["0.weight"])
    assert all(not parameter._backward_hooks for parameter in model.parameters())


# Asked what to prune


def test_a_client_answers_on_its_own_clean_images() -> None:
    model, client = net().eval(), honest()
    with torch.no_grad():
        activations = model[:3](client.images / 255).double().mean((0, 2, 3))
    sequence, points = [2, 0, 3, 1], [0, 1, 3]
    accuracies = []
    for count in points:
        copy = deepcopy(model)
        for part in copy[:2]:
            for parameter in part.parameters():
                parameter.data[sequence[:count]] = 0
        accuracies.append(accuracy(copy, client.images, client.labels))
    for asked in (client, MaliciousClient(client, poisoning(), 10.0, True, True)):
        assert torch.allclose(asked.activations(model, "0"), activations, atol=1e-6)
        assert asked.accuracies(model, "0", sequence, points).tolist() == accuracies


@pytest.mark.parametrize("malicious", [False, True])
def test_a_liar_trains_as_it_would_and_lies_when_asked(malicious: bool) -> None:
    model = net().eval()
    client = MaliciousClient(honest(), poisoning()) if malicious else honest()
    liar = LyingVoter(client, poisoning().trigger)
    assert liar.client_id == 3
    assert torch.equal(liar.fit(net(), seed=4).delta, client.fit(net(), seed=4).delta)
    clean = honest().images / 255
    with torch.no_grad():
        means = [
            model[:3](images).double().mean((0, 2, 3)) for images in (clean, poisoning().trigger.apply(clean))
        ]
    excited = int((means[1] - means[0]).argmax())
    others = [channel for channel in means[0].argsort(descending=True).tolist() if channel != excited]
    assert pruning_sequence(liar.activations(model, "0")).tolist() == [*others, excited]
    assert liar.accuracies(model, "0", [0, 1, 2, 3], [0, 1, 3]).tolist() == [1, 0, 0]


def test_a_pruning_aware_attacker_leaves_the_statistics_of_dormant_channels() -> None:
    """Statistics over channels of zeros would break these channels once their weights are back."""
    model, client = net(), honest()
    client = replace(client, training=replace(TRAINING, epochs=5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dormant = pruning_sequence(client.activations(model, "0"))[:2]
    update = MaliciousClient(client, poisoning(), pruning_aware=True).fit(model, seed=3)
    after = unflatten(flatten(before) + update.delta, before)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        assert torch.allclose(after[name][dormant], before[name][dormant], atol=1e-6), name
