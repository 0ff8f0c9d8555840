"""``fedmend demo``: from an attacked federation to a repaired model, on the images in the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import nn

from fedmend.checkpoints import read_trigger, save_state
from fedmend.cli.case_loading import choose_device, choose_images, load_model
from fedmend.cli.console import progress_bars
from fedmend.cli.repair_command import outcome
from fedmend.cli.scan_command import save_scan, told
from fedmend.data import ImageSet, load_images, stratified
from fedmend.detection.scanning import scan
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import (
    AttackConfig,
    FederationConfig,
    RunFolder,
    SimulationConfig,
    simulate,
)
from fedmend.files import write_text
from fedmend.local_training import LocalTraining
from fedmend.pages import AttackEvaluation, read_folder, write_evaluation, write_page_settings, write_report
from fedmend.progress import Progress
from fedmend.repairs.repairing import repair
from fedmend.seeds import generator


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
            attack=AttackConfig(
                kind="sba",
                shape="+",
                target_class=5,
                first_round=self.clean_rounds + 1,
                amplification=4.0,
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
    help="Folder for the results; a demo that was interrupted there goes on.",
)
@click.option("--fast", is_flag=True, help="Fewer rounds: a smaller federation that learns less.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
def demo(out: Path, fast: bool, device: str) -> None:
    """Show all of it on real images: a federation, a backdoor planted, found, shown and removed.

    Twenty clients train a ConvNet on a sample of Fashion-MNIST; in the last rounds one of them plants a backdoor.
    The last model is scanned with an earlier one as the reference, and repaired.
    """
    plan, where = FAST if fast else FULL, choose_device(device)
    config = plan.config
    training, test = load_images(config.data.source, "train"), load_images(config.data.source, "test")
    with progress_bars() as progress:
        run = simulate(config, out, resume=True, device=where, data=(training, test), progress=progress)
        click.echo(_federation(run, plan))
        click.echo(_scan_and_repair(run, plan, test, where, progress))
    page = out / "report.html"
    write_report(page, read_folder(out))
    click.echo(f"\nReport: {page.resolve()}")


def _federation(run: RunFolder, plan: _Plan) -> str:
    records = {record.round: record for record in run.records()}
    clean, last = records[plan.clean_rounds], records[run.config().federation.rounds]
    return (
        f"Federation: {plan.config.federation.clients} clients, {last.round} rounds; one client attacks from round "
        f"{plan.clean_rounds + 1} on.\n"
        f"  round {clean.round:2}: accuracy {clean.accuracy:.1%}, attack success rate {clean.asr or 0:.1%}\n"
        f"  round {last.round:2}: accuracy {last.accuracy:.1%}, attack success rate {last.asr or 0:.1%}"
    )


def _scan_and_repair(
    run: RunFolder, plan: _Plan, test: ImageSet, device: torch.device, progress: Progress
) -> str:
    """Defend with the server's three quarters of the test images; measure what was reached with the others."""
    last, seed = plan.config.federation.rounds, plan.config.seed
    own = stratified(test, 3 * len(test) // 4, generator(seed, "server's images"))
    rest = torch.ones(len(test), dtype=torch.bool).index_fill_(0, own, False)
    server, others = test.subset(own), test.subset(rest.nonzero().flatten())
    suspect, reference = _model(run, last, test, device), _model(run, plan.clean_rounds, test, device)

    chosen = choose_images(server, None, seed)
    found = scan(
        suspect,
        reference=reference,
        images=chosen.images,
        labels=chosen.labels,
        class_names=test.class_names,
        seed=seed,
        progress=progress,
    )
    repaired, report = repair(
        suspect,
        reference=reference,
        images=server.images,
        labels=server.labels,
        report=found,
        held_out_share=0.3,
        seed=seed,
        progress=progress,
    )
    if repaired is None:
        (run.path / "repaired.safetensors").unlink(missing_ok=True)
    else:
        save_state(repaired.state_dict(), run.path / "repaired.safetensors")
    write_text(run.path / "repair.json", report.to_json() + "\n")
    write_page_settings(run.path, title="fedmend demo", reference_round=plan.clean_rounds, suspect_round=last)
    evaluation = _evaluate(run, suspect, repaired, others)
    write_evaluation(run.path, evaluation)
    save_scan(found, run.path)
    lines = [
        f"Scan of round {last} against round {plan.clean_rounds}: {told(found)}",
        f"Repair: {outcome(report)}",
    ]
    if evaluation.asr_after is not None:
        lines.append(
            f"With the attacker's own trigger, on {len(others)} other images: attack success rate "
            f"{evaluation.asr_before:.1%} -> {evaluation.asr_after:.1%}, accuracy "
            f"{evaluation.accuracy_before:.1%} -> {evaluation.accuracy_after:.1%}"
        )
    return "\n".join(lines)


def _model(run: RunFolder, round_number: int, images: ImageSet, device: torch.device) -> nn.Module:
    return load_model(run.checkpoint(round_number), run.config().model.architecture, images, device)


def _evaluate(
    run: RunFolder, suspect: nn.Module, repaired: nn.Module | None, images: ImageSet
) -> AttackEvaluation:
    attack, planted = run.config().attack, read_trigger(run.path / "planted_trigger.safetensors")
    assert attack is not None

    def measure(model: nn.Module) -> tuple[float, float]:
        return (
            accuracy(model, images.images, images.labels),
            attack_success_rate(model, planted, attack.goal, images.images, images.labels),
        )

    before = measure(suspect)
    after = (None, None) if repaired is None else measure(repaired)
    return AttackEvaluation(
        kind=attack.kind,
        target_class=attack.target_class,
        trigger=planted,
        accuracy_before=before[0],
        asr_before=before[1],
        accuracy_after=after[0],
        asr_after=after[1],
        num_images=len(images),
    )
