"""A simulated federation: its clients, and which of them take part in each round.

It knows the attackers, so a defence must not see it; a defence may only ask its clients and run its rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from fedmend.data import ImageSet, partition
from fedmend.federation.attackers import PlannedAttack, attackers_of, plan_attacks, swap_data
from fedmend.federation.client_fit import RoundPlan
from fedmend.federation.clients import Client, Task
from fedmend.federation.config import SimulationConfig
from fedmend.federation.run_folder import RunFolder, simulated_config
from fedmend.seeds import generator

_NO_MASK: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Federation:
    """All clients with their images.

    Attributes:
        config: the settings, attacks included.
        clients: by number; attackers have their attack, even before it starts.
        attacks: the settings' attacks, planned for these images.
    """

    config: SimulationConfig
    clients: tuple[Client, ...]
    attacks: tuple[PlannedAttack, ...]

    def choose(self, round_number: int) -> list[Client]:
        """The clients of a round, as they behave in it: attackers are honest before and after their attack.

        A client without images is left out.
        """
        honest = {
            number
            for attack in self.attacks
            if not attack.config.lasts(round_number)
            for number in attack.attackers
        }
        chosen = [self.clients[number] for number in choose_clients(self.config, round_number)]
        return [
            replace(client, attack=None) if client.client_id in honest else client
            for client in chosen
            if len(client.images)
        ]

    def plan(
        self, round_number: int, task: Task | None = None, mask: Mapping[str, Tensor] = _NO_MASK
    ) -> RoundPlan:
        """The plan of a round: by default the settings' ``[training]``, with no pruning mask."""
        return RoundPlan(round_number, self.config.seed, task or self.config.training, dict(mask))


def build_federation(
    config: SimulationConfig, images: ImageSet, device: torch.device | str = "cpu"
) -> Federation:
    """Divide the training images among the clients, and move them to ``device`` once.

    Raises:
        ConfigError: an attack can't be made or doesn't fit the images. DataError: the images can't be divided this
            way, or an attack's goal attacks none of them.
    """
    labels, count, data = images.labels, config.federation.clients, config.data
    random = generator(config.seed, "partition")
    if data.partition == "iid":
        parts = partition.iid(labels, count, random)
    elif data.partition == "k-label":
        parts = partition.k_label(labels, count, data.labels_per_client, random)
    else:
        parts = partition.dirichlet(labels, count, data.alpha, random)
    attacks = plan_attacks(config, images)
    for attack in attacks:
        attack.require_attacked(images, "training")
    swap_data(parts, labels, attacks)
    pictures, classes = images.images.to(device), labels.to(device)
    clients = [
        Client(
            index,
            pictures[part.to(device)],
            classes[part.to(device)],
            attack=next(filter(None, (attack.attack_of(index) for attack in attacks)), None),
            lies=next(filter(None, (attack.lies_of(index) for attack in attacks)), None),
        )
        for index, part in enumerate(parts)
    ]
    return Federation(config, tuple(clients), attacks)


def load_federation(
    run: RunFolder,
    images: ImageSet,
    device: torch.device | str = "cpu",
    lying_clients: int | None = None,
) -> Federation:
    """The federation of a run, to continue the simulation.

    Args:
        run: its folder; ``attacker/`` is read, too.
        images: the run's training images.
        device: to move the clients' images to.
        lying_clients: replaces the first attack's setting, if given.

    Raises:
        ConfigError: there is no run, its settings were damaged, or too many clients should lie.
        DataError: see :func:`build_federation`.
    """
    config = simulated_config(run)
    if lying_clients is not None and config.attack:
        first = replace(config.attack[0], lying_clients=lying_clients)
        config = replace(config, attack=(first, *config.attack[1:]))
    return build_federation(config, images, device)


def choose_clients(config: SimulationConfig, round_number: int) -> tuple[int, ...]:
    """The sorted numbers of a round's clients: a random sample, with the attackers that take part in every round."""
    federation = config.federation
    order = torch.randperm(
        federation.clients, generator=generator(config.seed, "choose", round_number)
    ).tolist()
    constant = [
        number
        for attack, attackers in zip(config.attack, attackers_of(config), strict=True)
        if attack.every_round and attack.lasts(round_number)
        for number in attackers
    ]
    order = [*constant, *(number for number in order if number not in constant)]
    return tuple(sorted(order[: federation.clients_per_round]))


def attackers_in(config: SimulationConfig, round_number: int) -> tuple[int, ...]:
    """The sorted numbers of the clients that attack in a round."""
    active = {
        number
        for attack, attackers in zip(config.attack, attackers_of(config), strict=True)
        if attack.lasts(round_number)
        for number in attackers
    }
    return tuple(number for number in choose_clients(config, round_number) if number in active)
