"""``fedmend repair --method prune``: the clients of a simulated run vote the backdoor out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click
import torch
from torch import nn

from fedmend.checkpoints import read_trigger
from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import progress_bars
from fedmend.cli.saving import save_repaired
from fedmend.data import ImageSet, load_images, stratified
from fedmend.errors import ConfigError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder
from fedmend.files import write_text
from fedmend.pages import PruneEvaluation, read_folder, write_prune_evaluation, write_report
from fedmend.pruning import accuracies_along
from fedmend.repairs import PAPER_RECIPE, FederatedPruning
from fedmend.repairs.vote_pruning import PruneReport
from fedmend.seeds import generator

RECIPES = {"prune": FederatedPruning(), "prune-paper": PAPER_RECIPE}
EXIT_CODES = {"pruned": 0, "failed": 1}


def prune_run(
    path: Path,
    recipe: FederatedPruning,
    validation_images: int,
    max_accuracy_drop: float | None,
    device: str,
    seed: int,
    as_json: bool,
    out: Path,
) -> int:
    """Repair a run's last model, and write the model, prune.json, prune_evaluation.json and the page.

    Raises:
        ConfigError: ``path`` isn't a run. FedmendError: the run can't be used.
    """
    if not path.is_dir():
        raise ConfigError(
            f"--method prune repairs the folder of a run of fedmend simulate, whose clients vote; {path} is no folder. "
            "For a model file: --method unlearn, with --reference, --model and --data"
        )
    run = RunFolder(path)
    config, where = run.config(), choose_device(device)
    train_set, test = load_images(config.data.source, "train"), load_images(config.data.source, "test")
    chosen = torch.zeros(len(test), dtype=torch.bool)
    if validation_images:
        if validation_images >= len(test):
            raise ConfigError(
                f"--validation-images {validation_images}: the test split has {len(test)} images, and some must "
                "be left to measure on; ask for fewer, or 0 to have the clients report their accuracies"
            )
        chosen[stratified(test, validation_images, generator(seed, "validation"))] = True
    validation = test.subset(chosen.nonzero().flatten()) if validation_images else None
    watched = _Watch(run, test.subset((~chosen).nonzero().flatten()))
    with progress_bars() as progress:
        model, report = recipe(
            run,
            validation=validation,
            data=train_set,
            max_accuracy_drop=0.05 if max_accuracy_drop is None else max_accuracy_drop,
            device=where,
            progress=progress,
            watch=watched,
        )
    folder = out.parent
    save_repaired(model if report.outcome == "pruned" else None, out)
    measured = watched.evaluation(report)
    with suppress(OSError):
        (folder / "prune_evaluation.json").unlink()  # an earlier repair's
    write_text(folder / "prune.json", report.to_json() + "\n")
    if measured is not None:
        write_prune_evaluation(folder, measured)
    page = folder / "report.html"
    write_report(page, read_folder(folder))
    click.echo(report.to_json() if as_json else f"{told(report, measured)}\nReport: {page}")
    return EXIT_CODES[report.outcome]


def told(report: PruneReport, measured: PruneEvaluation | None) -> str:
    """A pruning repair's outcome for a person."""
    refused = f", {sum(report.refused.values())} refused" if report.refused else ""
    missing = f", {report.missing} missing" if report.missing else ""
    lines = [
        f"{report.outcome.upper()}. {report.reason}",
        f"{report.ballots} ballots counted{refused}{missing}.",
    ]
    best = next(iter(report.moves), None)
    if best is not None and best.telling:
        trigger, found = best.best, "found" if report.validation_images else "claim to have found"
        pixels = (
            "1 pixel that moves" if len(trigger.pixels) == 1 else f"{len(trigger.pixels)} pixels that move"
        )
        lines.append(
            f"Clients {found} {pixels} {trigger.rate:.1%} of class {trigger.source_class} to class "
            f"{trigger.target_class} ({best.clients} {'client' if best.clients == 1 else 'clients'})."
        )
    if measured is not None:
        lines.append(
            f"Attack success rate (known only in a simulation): {measured.asr[0]:.1%} before, "
            f"{measured.asr[-1]:.1%} after."
        )
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in report.warnings)])


class _Watch:
    """Measures each stage with the attacker's trigger, which the defence never sees."""

    def __init__(self, run: RunFolder, test: ImageSet) -> None:
        self._attack, self._test = run.config().attack, test
        self._trigger = (
            None if self._attack is None else read_trigger(run.path / "planted_trigger.safetensors")
        )
        self._accuracy: dict[str, float] = {}
        self._asr: dict[str, float] = {}
        self._suspect: nn.Module | None = None

    def __call__(self, stage: str, model: nn.Module) -> None:
        if stage.startswith("fine-tuning, round") or self._attack is None or self._trigger is None:
            return
        if stage == "suspect":
            self._suspect = model
        images, labels = self._test.images, self._test.labels
        self._accuracy[stage] = accuracy(model, images, labels)
        self._asr[stage] = attack_success_rate(model, self._trigger, self._attack.goal, images, labels)

    def evaluation(self, report: PruneReport) -> PruneEvaluation | None:
        """What an attacker's success was along the sequence and by stage; None in an honest federation."""
        if self._attack is None or self._trigger is None or self._suspect is None:
            return None
        target, victim = self._attack.target_class, self._attack.victim_class
        labels = self._test.labels
        stamped = self._test.images[labels != target if victim is None else labels == victim]
        along = accuracies_along(
            self._suspect,
            report.sequence,
            report.points,
            stamped,
            torch.full((len(stamped),), target),
            layer=report.layer,
            trigger=self._trigger,
        )
        names = [stage.name for stage in report.stages]
        return PruneEvaluation(
            asr_along=tuple(along.tolist()),
            accuracy=tuple(self._accuracy[name] for name in names),
            asr=tuple(self._asr[name] for name in names),
            num_images=len(self._test),
        )
