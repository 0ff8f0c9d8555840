"""``fedmend repair --method prune``: the clients of a simulated run vote on what to prune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from fedmend.cli.attack_measuring import rates_in_words
from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import progress_bars
from fedmend.cli.saving import model_file, save_results
from fedmend.data import ImageSet, load_images, stratified
from fedmend.detection import Case
from fedmend.errors import ConfigError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder, load_attacks, load_federation
from fedmend.federation.attackers import PlannedAttack
from fedmend.federation.workers import begin_start, can_be_sent, check_workers, client_workers
from fedmend.goals import targets_of
from fedmend.pages import PruneEvaluation, prune_evaluation_file
from fedmend.pixels import to_float
from fedmend.pruning import accuracies_along
from fedmend.repairs import VOTING_GATE, FederatedPruning, RepairReport, ValidationSet, repair_by_votes
from fedmend.repairs.repair_report import PruningDetails
from fedmend.repairs.simulated_run import participants_of, round_model
from fedmend.seeds import generator
from fedmend.triggers import stamp

_STAGES = 5
"""Votes, accuracies, triggers, fine-tuning, and the new scan."""


def prune_run(
    path: Path,
    method: FederatedPruning,
    own_images: tuple[int, int],
    reference_round: int | None,
    max_accuracy_drop: float | None,
    workers: int | None,
    device: str,
    seed: int,
    out: Path,
    overwrite: bool,
) -> tuple[RepairReport, str]:
    """Repair a run's last model; write the model, repair.json, the attack's evaluation and the page.

    Args:
        own_images: how many of the test images are the server's own: to choose by, and to judge by.

    Returns:
        The report, and the text to print.

    Raises:
        ConfigError: ``path`` isn't a run, lacks the reference round, or that is the round to repair.
        FedmendError: the run can't be used.
    """
    if not path.is_dir():
        raise ConfigError(
            f"--method prune expects the folder of a run of fedmend simulate, whose clients vote; {path} is no folder. "
            "For a model file, use --method unlearn with --reference, --model and --data"
        )
    run = RunFolder(path)
    config, where = run.config(), choose_device(device)
    run.check()
    run.attacker.check()
    count = _workers(workers, where, config.federation.clients_per_round)
    train, test = load_images(config.data.source, "train"), load_images(config.data.source, "test")
    validation, held_out, others = _divided(test, own_images, seed)
    if reference_round is not None and reference_round == run.last_round():
        raise ConfigError(
            f"--reference-round {reference_round} is the round whose model is to be repaired; give one from before any "
            "attack"
        )
    suspect = round_model(run, train, device=where)
    case = Case(suspect, class_names=test.class_names)
    if held_out is not None:
        case = replace(case, images=held_out.images, labels=held_out.labels)
    if reference_round is not None:
        case = replace(case, reference=round_model(run, train, reference_round, where))
    if workers is None and not can_be_sent(suspect):
        count = 1
    gate = (
        VOTING_GATE
        if max_accuracy_drop is None
        else replace(VOTING_GATE, max_accuracy_drop=max_accuracy_drop)
    )
    federation = load_federation(run, train, where)
    with (
        progress_bars(stages=_STAGES) as progress,
        client_workers(count if method.fine_tuning_rounds else 1) as fit,
    ):
        participants = replace(participants_of(run, federation, fit), seed=seed)
        if validation is not None:
            chooses = ValidationSet(validation.images, validation.labels)
            participants = replace(participants, validation=chooses)
        model, report, stages = repair_by_votes(case, participants, method, gate, progress)
    if participants.last_round != config.federation.rounds:
        stopped = (
            f"the run stopped after round {participants.last_round} of {config.federation.rounds}; its last model was "
            "repaired"
        )
        report = replace(report, warnings=(stopped, *report.warnings))
    measured = evaluate(run, others, stages, report)
    repair_file = {"repair.json": report.to_json() + "\n"}
    results = {**model_file(model, out.name), **repair_file, **prune_evaluation_file(measured)}
    page = save_results(out.parent, results, overwrite=overwrite)
    model_line = "" if model is None else f"Model: {out}\n"
    return report, f"{summary(report, measured)}\n{model_line}Report: {page}"


def evaluate(
    run: RunFolder, test: ImageSet, stages: Mapping[str, nn.Module], report: RepairReport
) -> PruneEvaluation | None:
    """Each attack's success along the pruning sequence and after each stage.

    It measures with the attackers' own triggers, after the repair; no defence sees the result.

    Returns:
        None in an honest federation, or if no test image of a class that an attack needs is left.
    """
    details, attacks = report.details, load_attacks(run, test)
    images, labels = test.images, test.labels
    measurable = all(bool(attack.attacked(labels).any()) for attack in attacks)
    if not attacks or not measurable or not isinstance(details, PruningDetails):
        return None
    models = [stages[stage.name] for stage in details.stages]
    along = [_success_along(stages["suspect"], attack, test, details) for attack in attacks]
    return PruneEvaluation(
        asr_along=tuple(zip(*along, strict=True)),
        accuracy=tuple(accuracy(model, images, labels) for model in models),
        asr=tuple(
            tuple(
                attack_success_rate(model, attack.trigger, attack.goal, images, labels) for attack in attacks
            )
            for model in models
        ),
        num_images=len(test),
    )


def _success_along(
    suspect: nn.Module, attack: PlannedAttack, test: ImageSet, details: PruningDetails
) -> list[float]:
    """An attack's success at each testing point of the pruning, before any other stage."""
    chosen = attack.attacked(test.labels)
    rates: list[float] = accuracies_along(
        suspect,
        details.sequence,
        details.points,
        stamp(attack.trigger, to_float(test.images[chosen])),
        targets_of(attack.goal, test.labels)[chosen],
        details.layer,
    ).tolist()
    return rates


def summary(report: RepairReport, measured: PruneEvaluation | None) -> str:
    """The outcome of a repair by votes, as printed."""
    details = report.details
    assert isinstance(details, PruningDetails)
    refused = f", {sum(details.refused.values())} refused" if details.refused else ""
    missing = f", {details.missing} missing" if details.missing else ""
    lines = [
        f"{report.outcome.upper()}. {report.reason}",
        f"{details.ballots} ballots counted{refused}{missing}.",
    ]
    best = next(iter(details.moves), None)
    if best is not None and best.best.telling:
        trigger, found = best.best, "found" if details.num_validation else "claim to have found"
        pixels = (
            "1 pixel that sends" if len(trigger.pixels) == 1 else f"{len(trigger.pixels)} pixels that send"
        )
        lines.append(
            f"Clients {found} {pixels} {trigger.rate:.1%} of class {trigger.source_class} to class "
            f"{trigger.target_class} ({best.clients} {'client' if best.clients == 1 else 'clients'})."
        )
    if measured is not None:
        lines.append(
            f"Attack success rate (known only in a simulation): {rates_in_words(measured.asr[0])} before, "
            f"{rates_in_words(measured.asr[-1])} after."
        )
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in report.warnings)])


def _divided(
    test: ImageSet, own_images: tuple[int, int], seed: int
) -> tuple[ImageSet | None, ImageSet | None, ImageSet]:
    """The server's validation images, its held-out images, and those to measure the attack on: no image is in two."""
    if sum(own_images) >= len(test):
        raise ConfigError(
            f"--validation-images {own_images[0]} and --held-out-images {own_images[1]}: the test split has "
            f"{len(test)} images, and some must be left to measure the attack on; ask for fewer, or for 0 of "
            "both to have the clients report their accuracies"
        )
    validation, rest = _drawn(test, own_images[0], generator(seed, "validation"))
    held_out, others = _drawn(rest, own_images[1], generator(seed, "held-out images"))
    return validation, held_out, others


def _drawn(images: ImageSet, count: int, rng: torch.Generator) -> tuple[ImageSet | None, ImageSet]:
    """So many of the images, None for 0, and the others."""
    if not count:
        return None, images
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[stratified(images, count, rng)] = True
    return images.subset(chosen.nonzero().flatten()), images.subset((~chosen).nonzero().flatten())


def _workers(wanted: int | None, device: torch.device, most: int) -> int:
    """The number of useful workers; if above one, starts the fork server in the background."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    count = min(threads if wanted is None else wanted, most)
    check_workers(count)
    if count > 1:
        begin_start()
    return count
