"""``fedmend demo``: from an attacked federation to a repaired model, on the images in the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import nn

from fedmend.cli.case_loading import choose_device, choose_images, load_model
from fedmend.cli.console import progress_bars
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.repair_command import outcome
from fedmend.cli.saving import save_repaired
from fedmend.cli.scan_command import save_scan, summary
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
from fedmend.files import write_text
from fedmend.local_training import LocalTraining
from fedmend.pages import AttackEvaluation, read_folder, write_evaluation, write_page, write_page_settings
from fedmend.progress import Progress
from fedmend.repairs import HoldOutGate, repair
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


FULL = _Plan(clean_rounds=10, attacked_rounds=4)
FAST = _Plan(clean_rounds=5, attacked_rounds=3)


@click.command()
@click.option(
    "--out",
    default="fedmend-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the results; an interrupted demo there is resumed.",
)
@click.option("--fast", is_flag=True, help="Fewer rounds, and a less accurate model.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
def demo(out: Path, fast: bool, device: str) -> None:
    """Attack a small federation, find the backdoor and repair the model, on real images.

    Twenty clients train a ConvNet on a sample of Fashion-MNIST; in the last rounds one of them plants a backdoor.
    The last model is scanned, with an earlier one as the reference, and repaired.
    """
    plan, where = FAST if fast else FULL, choose_device(device)
    config = plan.config
    training, test = load_images(config.data.source, "train"), load_images(config.data.source, "test")
    with progress_bars() as progress:
        run = simulate(
            config,
            out,
            resume=True,
            data=(training, test),
            execution=Execution(device=where, progress=progress),
        )
        click.echo(_federation(run, plan))
        click.echo(_scan_and_repair(run, plan, test, where, progress))
    page = out / "report.html"
    write_page(page, read_folder(out))
    click.echo(f"\nReport: {page.resolve()}")


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
    repaired_file = run.path / "repaired.safetensors"
    repaired_file.unlink(missing_ok=True)
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
    save_repaired(repaired, repaired_file)
    write_text(run.path / "repair.json", report.to_json() + "\n")
    write_page_settings(run.path, title="fedmend demo", reference_round=plan.clean_rounds, suspect_round=last)
    evaluation = _evaluate(run, suspect, repaired, others)
    write_evaluation(run.path, evaluation)
    save_scan(found, run.path)
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
