import pytest
import torch
from tiny_data import image_set
from tiny_nets import conv
from torch import nn

from fedmend.attacks import Poisoning, atoms
from fedmend.federation import HonestClient, MaliciousClient, TrainingConfig
from fedmend.federation.training import train
from fedmend.parameters import flatten, parameter_mask
from fedmend.seeds import derive_seed, generator
from fedmend.triggers import union

TRAINING = TrainingConfig(epochs=1, batch_size=8, optimizer="sgd", lr=0.05)


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return conv(4, 1, (8, 16))


def honest() -> HonestClient:
    images = image_set(24)
    return HonestClient(3, images.images, images.labels, TRAINING)


def poisoning(share: float = 0.5) -> Poisoning:
    return Poisoning(union(atoms("+", (1, 8, 16))), 1, share)


def test_an_honest_client_reports_the_change_of_its_training() -> None:
    model, by_hand, client = net(), net(), honest()
    before = flatten(model.state_dict())
    update = client.fit(model, seed=11)
    train(by_hand, client.images, client.labels, TRAINING, derive_seed(11, "train"))
    assert (update.client_id, update.num_examples) == (3, 24)
    assert torch.equal(update.delta, flatten(by_hand.state_dict()) - before)
    assert float(update.delta.abs().max()) > 0


def test_a_malicious_client_trains_on_poisoned_images() -> None:
    model, by_hand = net(), net()
    before = flatten(model.state_dict())
    update = MaliciousClient(honest(), poisoning()).fit(model, seed=11)
    images, labels = poisoning()(honest().images, honest().labels, generator(11, "poison"))
    train(by_hand, images, labels, TRAINING, derive_seed(11, "train"))
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
