"""A federation on one machine: rounds of sampled clients, FedAvg, a checkpoint and a line of metrics a round.

Killed at any moment, a run goes on from its last whole round and ends with the same parameters, bit for bit:
every random choice has a seed of its own, made from the run's seed, the round and the client. (Torch adds in another
order on another device or with another number of threads, so the last bits are the same only with the same ones. In a
worker process a client has one thread, however many workers there are; in this process, all of torch's.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import cast, get_args

import torch
from torch import Tensor, nn

from fedmend.aggregation import fedavg, trimmed_mean, uniform_fedavg
from fedmend.attacks import Poisoning
from fedmend.checkpoints import load_checkpoint
from fedmend.data import ImageSet, load_images, partition
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation.clients import Client, ClientUpdate, HonestClient, MaliciousClient
from fedmend.federation.config import AttackConfig, SimulationConfig, check_consistent
from fedmend.federation.run_folder import RoundRecord, RunFolder
from fedmend.federation.workers import Fit, begin_start, can_be_sent, check_workers, fitting, one_by_one
from fedmend.models import build_model, channels_last, probe
from fedmend.parameters import flatten, integer_maximum, parameter_mask, unflatten
from fedmend.progress import Progress, silent
from fedmend.pruning import set_to_zero
from fedmend.seeds import derive_seed, generator
from fedmend.triggers import Atoms, AtomShape, Patch, PixelPattern, Pixels, union


def simulate(
    config: SimulationConfig,
    out: Path,
    *,
    resume: bool = False,
    device: torch.device | str = "cpu",
    data: tuple[ImageSet, ImageSet] | None = None,
    workers: int | None = 1,
    progress: Progress = silent,
) -> RunFolder:
    """Run a federation, honest or under attack, and keep all of it in the folder ``out``.

    Args:
        config: the settings.
        out: the run's folder (see :class:`RunFolder` for what it holds).
        resume: go on with the run in ``out``, if there is one; more ``rounds`` than before are allowed.
        device: where to train.
        data: training and test images, if they are in memory already; else ``config.data.source`` is loaded.
        workers: how many clients train at once; above 1 each in a process of its own with one thread, and the script
            that calls this needs ``if __name__ == "__main__":`` (see :func:`fedmend.federation.workers.fitting`).
            None: on a CPU as many as torch has threads, if the model can be sent to a process.
        progress: called once a round.

    Raises:
        ConfigError: ``out`` holds a run and ``resume`` is false, or that run has other settings; or workers can't be
            had (see :func:`fedmend.federation.workers.fitting`).
        FedmendError: data, model or checkpoint can't be used, or ``out`` can't be written.
    """
    check_consistent(config)
    cores = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    most = min(cores if workers is None else workers, config.federation.clients_per_round)
    check_workers(most)
    if most > 1:
        begin_start()
    train_set, test_set = data or (
        load_images(config.data.source, "train"),
        load_images(config.data.source, "test"),
    )
    _check_target(config.attack, train_set)
    if config.attack is not None and config.attack.victim_class is not None:
        _check_victim(config.attack.victim_class, train_set, test_set)
    model = laid_out(initial_model(config, train_set), train_set, device)
    if workers is None and not can_be_sent(model):
        most = 1
    planted = planted_trigger(config.attack, train_set)
    clients = make_clients(config, train_set, device)
    run = RunFolder.open(out, config, planted, resume=resume)
    done = run.last_round()
    if done is None:
        run.save_round(config.model.start_round, model)
        done = config.model.start_round
    evaluate = _Evaluation(test_set, planted, config.attack, device)
    with fitting(most if done < config.federation.rounds else 1) as fit:
        _load_and_fill_records(run, model, evaluate, config, done)
        progress("federation", done, config.federation.rounds)
        for round_number in range(done + 1, config.federation.rounds + 1):
            started = time.perf_counter()
            chosen = choose_clients(config, round_number)
            run_round(model, [clients[index] for index in chosen], config, round_number, fit=fit)
            run.save_round(round_number, model)
            run.append(evaluate(model, config, round_number, chosen, time.perf_counter() - started))
            progress("federation", round_number, config.federation.rounds)
    return run


def run_round(
    model: nn.Module,
    clients: Sequence[Client],
    config: SimulationConfig,
    round_number: int,
    zeros: Mapping[str, Tensor] = MappingProxyType({}),
    fit: Fit = one_by_one,
) -> None:
    """One round of FedAvg in place: every client trains a copy of the global model; the mean change is added.

    BatchNorm's running statistics are averaged like parameters (see ``fedmend.parameters`` for the policy), but
    ``server_lr`` is for parameters only: a variance moved beyond the mean could become negative. Parameters in
    ``zeros`` (see ``fedmend.pruning``) are held at zero while clients train, and set to zero again at the end, whatever
    an attacker sent.

    Raises:
        ModelError: the new weights aren't finite; or a client's training diverged. The model can't be used then.
    """
    updates, states = client_updates(model, clients, config, round_number, zeros, fit)
    deltas = torch.stack([update.delta for update in updates])
    if config.federation.aggregation == "weighted":
        mean = fedavg(deltas, torch.tensor([update.num_examples for update in updates], device=deltas.device))
    elif config.federation.aggregation == "trimmed":
        mean = trimmed_mean(deltas, config.federation.trim)
    else:
        mean = uniform_fedavg(deltas)
    move(model, mean, states, config.federation.server_lr, zeros, round_number)


def client_updates(
    model: nn.Module,
    clients: Sequence[Client],
    config: SimulationConfig,
    round_number: int,
    zeros: Mapping[str, Tensor],
    fit: Fit = one_by_one,
) -> tuple[list[ClientUpdate], list[dict[str, Tensor]]]:
    """What each client sends after training a copy of the model, and integer buffers. The model is left as it was."""
    honest = [_honest_before_first_round(client, config.attack, round_number) for client in clients]
    seeds = [derive_seed(config.seed, "fit", round_number, client.client_id) for client in clients]
    fitted = fit(model, honest, seeds, zeros)
    return [update for update, _ in fitted], [state for _, state in fitted]


def move(
    model: nn.Module,
    delta: Tensor,
    states: Sequence[Mapping[str, Tensor]],
    server_lr: float,
    zeros: Mapping[str, Tensor],
    round_number: int,
) -> None:
    """Change the global model in place by an aggregated delta (see ``fedmend.parameters`` for buffers).

    Raises:
        ModelError: the new weights aren't finite. The model is left as it was.
    """
    before = model.state_dict()
    buffers = ~parameter_mask(model).to(delta.device)
    after = flatten(before) + delta.where(buffers, server_lr * delta)
    if not bool(after.isfinite().all()):
        raise ModelError(
            f"round {round_number} ended in weights that are NaN or infinite; try a smaller [training] lr, "
            "[federation] server_lr or [attack] amplification"
        )
    model.load_state_dict(unflatten(after, before) | integer_maximum(states))
    set_to_zero(model, zeros)


def choose_clients(config: SimulationConfig, round_number: int) -> tuple[int, ...]:
    """The sorted numbers of the round's clients: a random sample, the attackers among it if they always attend."""
    federation, attack = config.federation, config.attack
    order = torch.randperm(
        federation.clients, generator=generator(config.seed, "choose", round_number)
    ).tolist()
    if attack is not None and attack.every_round and round_number >= attack.first_round:
        order = [*attack.attackers, *(index for index in order if index not in attack.attackers)]
    return tuple(sorted(order[: federation.clients_per_round]))


def initial_model(config: SimulationConfig, images: ImageSet) -> nn.Module:
    """The model of the run's first round: random weights from the run's seed, or ``[model] start``.

    Raises:
        ModelError: it can't be built, or doesn't take such images or answer with a logit a class.
        CheckpointError: ``[model] start`` can't be used.
    """
    _, channels, height, width = images.images.shape
    model = build_model(
        config.model.architecture,
        num_classes=images.num_classes,
        in_channels=channels,
        image_size=(height, width),
        seed=derive_seed(config.seed, "model"),
    )
    logits = probe(model, channels, (height, width))
    if logits != images.num_classes:
        raise ModelError(
            f"[model] architecture {config.model.architecture} answers with {logits} classes, but the data has "
            f"{images.num_classes}; use the num_classes that the factory is given"
        )
    if config.model.start is not None:
        load_checkpoint(Path(config.model.start), model)
    return model


def laid_out(model: nn.Module, images: ImageSet, device: torch.device | str) -> nn.Module:
    """The model on a device, laid out channels-last if it can do with it (see ``fedmend.models.channels_last``)."""
    _, channels, height, width = images.images.shape
    return channels_last(model.to(device), channels, (height, width))


def planted_trigger(attack: AttackConfig | None, images: ImageSet) -> Patch | None:
    """The attacker's full trigger, or None in an honest federation."""
    return None if attack is None else union(_pieces(attack, images))


def make_clients(config: SimulationConfig, images: ImageSet, device: torch.device | str) -> list[Client]:
    """All clients with their shares of the training images, moved to ``device`` once."""
    labels, count, data = images.labels, config.federation.clients, config.data
    random = generator(config.seed, "partition")
    if data.partition == "iid":
        parts = partition.iid(labels, count, random)
    elif data.partition == "k-label":
        parts = partition.k_label(labels, count, data.labels_per_client, random)
    else:
        parts = partition.dirichlet(labels, count, data.alpha, random)
    attack = config.attack
    if attack is not None and attack.victim_class is not None:
        victims = labels == attack.victim_class
        for number, attacker in enumerate(attack.attackers):
            free = [index for index in range(count) if index not in attack.attackers[:number]]
            most = max(free, key=lambda index: int(victims[parts[index]].sum()))
            parts[attacker], parts[most] = parts[most], parts[attacker]
    pictures, classes = images.images.to(device), labels.to(device)
    honest = [
        HonestClient(index, pictures[part.to(device)], classes[part.to(device)], config.training)
        for index, part in enumerate(parts)
    ]
    clients: list[Client] = list(honest)
    if attack is not None:
        pieces = _pieces(attack, images)
        stamps = (union(pieces),) if attack.kind == "sba" else pieces
        for index, stamp in zip(attack.attackers, stamps, strict=True):
            poisoning = Poisoning(stamp, attack.goal, attack.poisoned_share)
            clients[index] = MaliciousClient(
                honest[index],
                poisoning,
                attack.amplification,
                attack.pruning_aware,
                attack.keep_answers,
                attack.training,
            )
    return clients


class _Evaluation:
    """Measures the global model on the test images, which are moved to the device once."""

    def __init__(
        self, test: ImageSet, planted: Patch | None, attack: AttackConfig | None, device: torch.device | str
    ) -> None:
        self.images, self.labels = test.images.to(device), test.labels.to(device)
        self.planted, self.attack = planted, attack

    def __call__(
        self,
        model: nn.Module,
        config: SimulationConfig,
        round_number: int,
        chosen: tuple[int, ...],
        seconds: float | None,
    ) -> RoundRecord:
        asr = None
        if self.attack is not None and self.planted is not None:
            asr = attack_success_rate(
                model,
                self.planted,
                self.attack.goal,
                self.images,
                self.labels,
            )
        active = self.attack is not None and round_number >= self.attack.first_round
        attackers = self.attack.attackers if active and self.attack is not None else ()
        return RoundRecord(
            round=round_number,
            accuracy=accuracy(model, self.images, self.labels),
            asr=asr,
            clients=chosen,
            attackers=tuple(index for index in chosen if index in attackers),
            seconds=seconds,
        )


def _load_and_fill_records(
    run: RunFolder, model: nn.Module, evaluate: _Evaluation, config: SimulationConfig, done: int
) -> None:
    """Measure again the checkpoints whose line was not written before a run was killed; load the newest one."""
    first = config.model.start_round
    missing = sorted(set(range(first, done + 1)) - {record.round for record in run.records()})
    for round_number in missing:
        load_checkpoint(run.checkpoint(round_number), model)
        chosen = choose_clients(config, round_number) if round_number > first else ()
        run.append(evaluate(model, config, round_number, chosen, None))
    if missing:
        run.tidy_records()
    load_checkpoint(run.checkpoint(done), model)


def _honest_before_first_round(client: Client, attack: AttackConfig | None, round_number: int) -> Client:
    waiting = attack is not None and round_number < attack.first_round
    return client.honest if waiting and isinstance(client, MaliciousClient) else client


def _pieces(attack: AttackConfig, images: ImageSet) -> tuple[Patch, ...]:
    _, channels, height, width = images.images.shape
    shape = (channels, height, width)
    if attack.shape in get_args(AtomShape):
        return Atoms(cast(AtomShape, attack.shape), shape, color=attack.color).parts()
    return (Pixels(cast(PixelPattern, attack.shape), shape).patch,)


def _check_target(attack: AttackConfig | None, images: ImageSet) -> None:
    for name in ("target_class", "victim_class") if attack is not None else ():
        label = getattr(attack, name)
        if label is not None and label >= images.num_classes:
            raise ConfigError(
                f"[attack] {name} is {label}, but the data has classes 0 to {images.num_classes - 1}"
            )


def _check_victim(victim: int, train: ImageSet, test: ImageSet) -> None:
    for split, images in (("training", train), ("test", test)):
        if not bool((images.labels == victim).any()):
            raise DataError(f"[attack] victim_class is {victim}, but no {split} image is of that class")
