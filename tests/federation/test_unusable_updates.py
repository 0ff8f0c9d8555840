"""Simulations that diverge, and clients too small or too different to train as others do."""

from dataclasses import replace
from pathlib import Path

import pytest
from simulations import run
from tiny_data import data, settings
from torch import nn

from fedmend.errors import DivergedError
from fedmend.federation import Refused, RunFolder, build_federation, choose_clients
from fedmend.federation.client_fit import NOT_FINITE


def test_a_model_with_finite_weights_whose_logits_overflow_is_not_saved(tmp_path: Path) -> None:
    """The round is that in which it happened, not the next, in which training would fail."""

    def review(candidate: nn.Module, number: int) -> nn.Module:
        if number == 2:
            for parameter in candidate.parameters():
                parameter.data.fill_(3e38)
        return candidate

    with pytest.raises(
        DivergedError, match=r"round 2 .*NaN or infinite logits.*\[\[attack.update\]\] factor"
    ):
        run(settings(), tmp_path, review=review)
    assert RunFolder(tmp_path).last_round() == 1


def test_an_update_that_overflows_is_refused_and_recorded(tmp_path: Path) -> None:
    attack = {"update": [{"kind": "amplify", "factor": 1e39}], "training": {"lr": 1.0}}
    done = run(settings(attack=[attack]), tmp_path)
    refused = [record.refused for record in done.records()]
    assert refused == [(), *[(Refused(0, NOT_FINITE),)] * 3]
    assert done.records()[-1].accuracy > 0.5


@pytest.mark.parametrize("net", ["flat_norm", "conv"])
def test_extremely_different_clients_of_one_image_or_one_class_train(tmp_path: Path, net: str) -> None:
    """With batch normalisation, which can't compute statistics of one image."""
    config = settings(
        data={"partition": "dirichlet", "alpha": 0.001},
        model={"architecture": f"tiny_nets:{net}"},
        federation={"clients": 30, "clients_per_round": 30, "rounds": 2},
    )
    sizes = [len(client.images) for client in build_federation(config, data()[0]).clients]
    assert min(sizes) == 1
    assert sizes.count(1) > 10
    done = run(config, tmp_path)
    assert done.last_round() == 2
    assert all(record.refused == () for record in done.records())


def test_a_client_without_images_is_not_asked_to_train() -> None:
    federation = build_federation(settings(), data()[0])
    (number, *_) = choose_clients(federation.config, 1)
    empty = replace(federation.clients[number], images=data()[0].images[:0], labels=data()[0].labels[:0])
    clients = tuple(empty if each.client_id == number else each for each in federation.clients)
    chosen = [client.client_id for client in replace(federation, clients=clients).choose(1)]
    assert chosen == [each for each in choose_clients(federation.config, 1) if each != number]
