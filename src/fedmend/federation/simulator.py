"""A federation on one machine: in each round clients train, a rule aggregates, and the next global model is released.

A killed run resumes after its last complete round and ends with the same parameters, bit for bit: every random choice
has its own seed, derived from the run's seed, the round and the client. That holds for code of the user's own, too,
which may use the global generators of Python, NumPy and torch. (Floating-point sums depend on the device and
thread count. A client has one thread in a worker process, for any number of workers, and all of torch's in this one.)
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fedmend.aggregation import State, aggregator_from_table
from fedmend.checked_settings import Count, require
from fedmend.checkpoints import load_checkpoint
from fedmend.data import ImageSet, load_images
from fedmend.errors import ConfigError, DivergedError, ModelError
from fedmend.federation.client_fit import Fit
from fedmend.federation.config import SimulationConfig
from fedmend.federation.frozen_table import plain
from fedmend.federation.measuring_rounds import Noted, RoundRecords
from fedmend.federation.reviews import Review, release_all, reviewed_by, stopped_before
from fedmend.federation.root_training import root_client
from fedmend.federation.rounds import Server, collect, next_model
from fedmend.federation.run_folder import RunFolder
from fedmend.federation.workers import begin_start, can_be_sent, check_workers, client_workers
from fedmend.federation.world import build_federation
from fedmend.inference import evaluating, pixels_for
from fedmend.models import build_model, channels_last, normalized, probe
from fedmend.progress import Progress, silent
from fedmend.seeds import derive_seed, seeded

_PROBED = 64


@dataclass(frozen=True)
class Execution:
    """Where and how a simulation runs, as opposed to what is simulated.

    Attributes:
        device: where to train.
        workers: how many clients train at once. Above 1, each trains in its own process with one thread, and a script
            needs ``if __name__ == "__main__":`` (see :func:`fedmend.federation.workers.client_workers`). None: on a
            CPU, the number of torch's threads if the model can be sent to a process; else 1.
        progress: called once per round.
        fit: trains the clients of a round in place of workers, such as on another engine.

    Raises:
        ConfigError: there is no such kind of device, or ``workers`` isn't 1 or more.
    """

    device: torch.device | str = "cpu"
    workers: int | None = 1
    progress: Progress = silent
    fit: Fit | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            require(self.workers, Count, "workers")
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"there is no device {self.device!r}; expected one such as cpu or cuda:0"
            ) from error


def simulate(
    config: SimulationConfig,
    out: Path | str,
    *,
    resume: bool = False,
    data: tuple[ImageSet, ImageSet] | None = None,
    execution: Execution = Execution(),
    review: Review = release_all,
) -> RunFolder:
    """Run a federation, honest or under attack, and save its results in the folder ``out``.

    Args:
        config: the settings.
        out: the run's folder (see :class:`RunFolder`).
        resume: continue the run in ``out``, if there is one; ``rounds`` may be raised. A run that a guard stopped
            stays as it is.
        data: training and test images, if already in memory; else ``config.data.source`` is loaded.
        execution: device, worker processes and progress.
        review: returns the next global model after each round: the candidate, or another in its place. With a table
            ``[guard]``, that of a guard: see :func:`fedmend.guard.guarded`.

    Raises:
        ConfigError: the settings have a table ``[guard]`` and there is no review; ``out`` holds a run and ``resume`` is
            false, or that run has other settings; or workers can't be started (see
            :func:`fedmend.federation.workers.client_workers`).
        FedmendError: data, model or checkpoint can't be used, or ``out`` can't be written.
    """
    if config.guard is not None and review is release_all:
        raise ConfigError(
            "the settings have a table [guard], and nothing that guards was given; pass review=guarded(config, out), "
            "from fedmend.guard, or remove the table"
        )
    device, progress = execution.device, execution.progress
    workers = _begin_workers(config, execution)
    train_set, test_set = data or (
        load_images(config.data.source, "train"),
        load_images(config.data.source, "test"),
    )
    model = laid_out(initial_model(config, train_set), train_set, device)
    if execution.workers is None and not can_be_sent(model):
        workers = 1
    federation = build_federation(config, train_set, device)
    for attack in federation.attacks:
        attack.require_attacked(test_set, "test")
    aggregator = aggregator_from_table(config.aggregation)
    run = RunFolder.open(Path(out), config, resume=resume)
    for index, attack in enumerate(federation.attacks):
        attacked = test_set.images[attack.attacked(test_set.labels)]
        run.attacker.save_trigger(index, attack.trigger, attacked[0])
    done, last = run.last_round(), config.federation.rounds
    if done is None:
        done = config.model.start_round
        run.save_round(done, model)
    if done < last and stopped_before(review, done):
        last = done
    records = RoundRecords(run, federation, test_set, device)
    with run.locked(), _clients_fit(execution.fit, workers if done < last else 1) as fit:
        records.fill_up_to(done, model)
        load_checkpoint(run.checkpoint(done), model)
        root = root_client(aggregator, federation.clients, config.seed)
        state = _state_after(run, done, device)
        server = Server(aggregator, config.federation.server_lr, state, root)
        progress("federation", done, last)
        for number in range(done + 1, last + 1):
            started = time.perf_counter()
            plan = federation.plan(number)
            with seeded(derive_seed(config.seed, "server", number), device):
                collected = collect(model, federation.choose(number), plan, fit)
                candidate, after = next_model(model, collected, plan, server)
                reviewed = reviewed_by(review, candidate, number)
            model = model if reviewed.model is None else reviewed.model
            server = after if model is candidate else _server_with(model, server, run, number, device)
            _require_usable(model, test_set, number)
            run.save_round(number, model, server.state)
            noted = Noted(time.perf_counter() - started, collected.refused, candidate, reviewed.decision)
            records.append(number, model, noted)
            progress("federation", number, last)
            if reviewed.stop:
                break
    return run


def _server_with(
    model: nn.Module, server: Server, run: RunFolder, number: int, device: torch.device | str
) -> Server:
    """The server after a review chose another model than the candidate of round ``number``.

    A model of an earlier round comes with the rule's state after that round, so that momentum from the rounds between
    doesn't bring their updates back; any other model with the state before round ``number``.
    """
    earlier = run.round_of(model)
    if earlier is None or earlier == number - 1:
        return server
    return replace(server, state=_state_after(run, earlier, device))


def _state_after(run: RunFolder, number: int, device: torch.device | str) -> State:
    return {name: value.to(device) for name, value in run.aggregator_state(number).items()}


def _clients_fit(given: Fit | None, workers: int) -> AbstractContextManager[Fit]:
    return client_workers(workers) if given is None else nullcontext(given)


def initial_model(config: SimulationConfig, images: ImageSet) -> nn.Module:
    """The model of the run's first round: random weights from the run's seed, or ``[model] start``.

    Raises:
        ModelError: it can't be built, fails on such images, or doesn't return one logit per class.
        CheckpointError: ``[model] start`` can't be used.
    """
    _, channels, height, width = images.images.shape
    seed = derive_seed(config.seed, "model")
    with seeded(seed):
        model = build_model(
            config.model.architecture,
            num_classes=images.num_classes,
            in_channels=channels,
            image_size=(height, width),
            seed=seed,
            arguments=plain(config.model.arguments),
        )
    if config.model.mean is not None and config.model.std is not None:
        normalized(model, config.model.mean, config.model.std, channels)
    logits = probe(model, channels, (height, width), training=True)
    if logits != images.num_classes:
        raise ModelError(
            f"[model] architecture {config.model.architecture} returns {logits} logits, but the data has "
            f"{images.num_classes} classes; use the num_classes passed to the factory"
        )
    if config.model.start is not None:
        load_checkpoint(Path(config.model.start), model)
    return model


def laid_out(model: nn.Module, images: ImageSet, device: torch.device | str) -> nn.Module:
    """The model on a device, channels-last if it supports it (see :func:`fedmend.models.channels_last`)."""
    _, channels, height, width = images.images.shape
    return channels_last(model.to(device), channels, (height, width))


def _require_usable(model: nn.Module, images: ImageSet, number: int) -> None:
    """Refuse a model whose weights are finite but so large that its logits aren't."""
    with evaluating(model), torch.no_grad():
        logits = model(pixels_for(model, images.images[:_PROBED]))
    if not bool(logits.isfinite().all()):
        raise DivergedError(
            f"round {number} ended in a model that returns NaN or infinite logits: training diverged; try a smaller "
            "[training] lr, [federation] server_lr or [[attack.update]] factor"
        )


def _begin_workers(config: SimulationConfig, execution: Execution) -> int:
    """The number of useful workers; if above one, starts the fork server in the background."""
    threads = torch.get_num_threads() if torch.device(execution.device).type == "cpu" else 1
    wanted = threads if execution.workers is None else execution.workers
    workers = min(wanted, config.federation.clients_per_round)
    check_workers(workers)
    if workers > 1:
        begin_start()
    return workers
