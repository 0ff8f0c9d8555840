"""``fedmend demo``: from an attacked federation to a repaired model, on the images in the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fedmend.cli.case_loading import choose_device, choose_images, load_model
from fedmend.cli.console import progress_bars, show
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.repair_command import outcome
from fedmend.cli.saving import model_file, save_results, scan_files
from fedmend.cli.scan_text import summary
from fedmend.cli.thread_choice import choose_threads
from fedmend.data import ImageSet, load_images, stratified
from fedmend.detection import Case, scan
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import (
    AttackConfig,
    Execution,
    FederationConfig,
    RunFolder,
    SimulationConfig,
    load_attacks,
    simulate,
)
from fedmend.local_training import LocalTraining
from fedmend.pages import AttackEvaluation, evaluation_file, page_settings_file
from fedmend.progress import Progress
from fedmend.repairs import HoldOutGate, repair
from fedmend.repairs.repairing import SEARCHES
from fedmend.seeds import generator

TARGET = 5


@dataclass(frozen=True)
class _Plan:
    """How long the demo's federation trains before and under attack."""

    clean_rounds: int
    attacked_rounds: int

    @property
    def config(self) -> SimulationConfig:
        return SimulationConfig(
            seed=7,
            training=LocalTraining(epochs=3, batch_size=32, lr=0.003),
            federation=FederationConfig(
                clients=20, clients_per_round=6, rounds=self.clean_rounds + self.attacked_rounds
            ),
            attack=(
                AttackConfig(
                    first_round=self.clean_rounds + 1,
                    trigger={"kind": "atoms", "shape": "+"},
                    goal={"kind": "all-to-one", "target": TARGET},
                    update=({"kind": "amplify", "factor": 4.0},),
                ),
            ),
        )


_STAGES = 1 + SEARCHES + 2 * HoldOutGate().max_passes
"""The scan and the repair."""

FULL = _Plan(clean_rounds=10, attacked_rounds=4)
FAST = _Plan(clean_rounds=5, attacked_rounds=3)


def demo(out: Path, fast: bool, device: str) -> None:
    """See :func:`fedmend.cli.demo_options.demo`."""
    plan, where = FAST if fast else FULL, choose_device(device)
    config = plan.config
    training, test = load_images(config.data.source, "train"), load_images(config.data.source, "test")
    choose_threads(0, where)  # a small network: with several threads, a busy machine slows it many times over
    with progress_bars() as progress:
        run = simulate(
            config,
            out,
            resume=True,
            data=(training, test),
            execution=Execution(device=where, progress=progress),
        )
    show(_federation(run, plan))
    with progress_bars(stages=_STAGES) as progress:
        text = _scan_and_repair(run, plan, test, where, progress)
    show(text)
    show(f"\nReport: {(out / 'report.html').resolve()}")


def _federation(run: RunFolder, plan: _Plan) -> str:
    accuracies = {record.round: record.accuracy for record in run.records()}
    asr = {record.round: record.asr[0] for record in run.attacker.records()}
    last = plan.config.federation.rounds
    return "\n".join(
        [
            f"Federation: {plan.config.federation.clients} clients, {last} rounds; one client attacks from round "
            f"{plan.clean_rounds + 1} on.",
            *(
                f"  round {number:2}: accuracy {accuracies[number]:.1%}, attack success rate {asr[number]:.1%}"
                for number in (plan.clean_rounds, last)
            ),
        ]
    )


def _scan_and_repair(
    run: RunFolder, plan: _Plan, test: ImageSet, device: torch.device, progress: Progress
) -> str:
    """Defend with the server's three quarters of the test images; evaluate on the rest."""
    last, seed = plan.config.federation.rounds, plan.config.seed
    own = stratified(test, 3 * len(test) // 4, generator(seed, "server's images"))
    rest = torch.ones(len(test), dtype=torch.bool).index_fill_(0, own, False)
    server, others = test.subset(own), test.subset(rest.nonzero().flatten())
    suspect, reference = _model(run, last, test, device), _model(run, plan.clean_rounds, test, device)

    chosen = choose_images(server, None, seed)
    found = scan(
        Case(suspect, reference, chosen.images, chosen.labels, test.class_names),
        seed=seed,
        progress=progress,
    )
    repaired, report = repair(
        Case(suspect, reference, server.images, server.labels, test.class_names),
        found,
        gate=HoldOutGate(held_out_fraction=0.3),
        seed=seed,
        progress=progress,
    )
    evaluation = _evaluate(run, suspect, repaired, others)
    results = {
        **scan_files(found, run.path),
        **model_file(repaired, "repaired.safetensors"),
        "repair.json": report.to_json() + "\n",
        **page_settings_file(title="fedmend demo", reference_round=plan.clean_rounds, suspect_round=last),
        **evaluation_file(evaluation),
    }
    save_results(run.path, results)
    lines = [
        f"Scan of round {last} against round {plan.clean_rounds}: {summary(found)}",
        f"Repair: {outcome(report)}",
    ]
    if evaluation.asr_after is not None:
        lines.append(
            f"With the attacker's own trigger, on {len(others)} other images: attack success rate "
            f"{evaluation.asr_before[0]:.1%} -> {evaluation.asr_after[0]:.1%}, accuracy "
            f"{evaluation.accuracy_before:.1%} -> {evaluation.accuracy_after:.1%}"
        )
    return "\n".join(lines)


def _model(run: RunFolder, round_number: int, images: ImageSet, device: torch.device) -> nn.Module:
    return load_model(
        run.checkpoint(round_number), ModelChoice(run.config().model.architecture), images, device
    )


def _evaluate(
    run: RunFolder, suspect: nn.Module, repaired: nn.Module | None, images: ImageSet
) -> AttackEvaluation:
    (attack,) = load_attacks(run, images)

    def asr(model: nn.Module) -> tuple[float]:
        return (attack_success_rate(model, attack.trigger, attack.goal, images.images, images.labels),)

    return AttackEvaluation(
        num_images=len(images),
        accuracy_before=accuracy(suspect, images.images, images.labels),
        asr_before=asr(suspect),
        accuracy_after=None if repaired is None else accuracy(repaired, images.images, images.labels),
        asr_after=None if repaired is None else asr(repaired),
    )
