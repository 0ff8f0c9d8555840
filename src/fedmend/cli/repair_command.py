"""``fedmend repair``: take the backdoor out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from fedmend.cli import options
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars
from fedmend.cli.pruning_command import RECIPES, prune_run
from fedmend.cli.saving import save_repaired
from fedmend.cli.scan_command import save_scan, told
from fedmend.data import stratified
from fedmend.detection import Case, find_detector
from fedmend.detection import scan as run_scan
from fedmend.errors import ConfigError
from fedmend.files import write_text
from fedmend.repairs.repairing import REPAIR, RepairReport
from fedmend.repairs.repairing import repair as run_repair
from fedmend.seeds import generator

METHODS = {"unlearn": REPAIR}
EXIT_CODES = {"repaired": 0, "not needed": 0, "failed": 1, "undecided": 3}


@click.command()
@options.suspect
@options.common(required=False)
@click.option(
    "--method",
    "repair_method",
    type=click.Choice([*METHODS, *RECIPES]),
    default="unlearn",
    show_default=True,
    help="How to repair: unlearn what a scan of a model file finds, or let the clients of a simulated run vote on what "
    "to prune; prune-paper keeps to the paper's recipe.",
)
@click.option(
    "--scan-method", "method", default=options.DEFAULT_DETECTOR, show_default=True, help=options.DETECTOR_HELP
)
@click.option(
    "--repair-images",
    type=click.IntRange(min=20),
    default=2000,
    show_default=True,
    help="Images at most to repair with; half of them are held out to check the result. Unlearning only.",
)
@click.option(
    "--validation-images",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Images of the server's own to prune with; 0: the clients report their accuracies. Pruning only.",
)
@click.option(
    "--vote",
    type=click.Choice(["ranking", "majority"]),
    help="What clients say of each channel: its rank among them, or a bit at each pruning rate. "
    "Pruning only.  [default: ranking]",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    help="Rounds of fine-tuning by the clients, attackers among them. Pruning only.  [default: 6]",
)
@click.option(
    "--delta",
    type=click.FloatRange(0, min_open=True),
    help="Weights so many standard deviations off the mean are set to zero. Pruning only.  [default: the recipe's]",
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 1),
    help="How much clean accuracy, as a share, a repair may cost; when unlearning, give or take a standard error.  "
    "[default: 0.01; 0.05 when pruning]",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The repaired model, .safetensors."
)
def repair(
    suspect: Path,
    reference: Path | None,
    architecture: str | None,
    source: str | None,
    split: str,
    count: int | None,
    device: str,
    seed: int,
    as_json: bool,
    repair_method: str,
    method: str,
    repair_images: int,
    validation_images: int,
    vote: Literal["ranking", "majority"] | None,
    rounds: int | None,
    delta: float | None,
    max_accuracy_drop: float | None,
    out: Path,
) -> int:
    """Scan the model file SUSPECT and, if it is backdoored, write a repaired model.

    With --method prune, SUSPECT is the folder of a run of fedmend simulate, and no scan is made: its clients vote on
    the channels to prune, find triggers of a few pixels, and fine-tune the model against them. Neither --reference
    nor --model nor --data are needed. The folder of --out also gets prune.json and report.html.

    Unlearning, the folder of --out also gets scan.json, trigger.safetensors, repair.json and report.html. A model
    is written only if it was repaired: its clean accuracy held, and a new scan finds no backdoor in it.

    Exit code: 0 repaired or nothing to repair, 1 the repair failed, 2 bad input, 3 the scan was inconclusive.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: repaired models are written as .safetensors; give it that ending")
    recipe = RECIPES.get(repair_method)
    if recipe is not None:
        given = {"--reference": reference, "--model": architecture, "--data": source}
        names = ", ".join(name for name, value in given.items() if value is not None)
        if names:
            raise ConfigError(f"--method {repair_method} takes a run's own model and data; leave out {names}")
        recipe = replace(
            recipe,
            vote=vote or recipe.vote,
            fine_tuning_rounds=recipe.fine_tuning_rounds if rounds is None else rounds,
            pruning=recipe.pruning if delta is None else replace(recipe.pruning, delta=delta),
        )
        return prune_run(suspect, recipe, validation_images, max_accuracy_drop, device, seed, as_json, out)
    if reference is None or architecture is None or source is None:
        missing = {"--reference": reference, "--model": architecture, "--data": source}
        names = ", ".join(name for name, value in missing.items() if value is None)
        raise ConfigError(f"--method unlearn needs {names} as well")
    pruning_only = {"--vote": vote, "--rounds": rounds, "--delta": delta}
    misplaced = ", ".join(name for name, value in pruning_only.items() if value is not None)
    if misplaced:
        raise ConfigError(f"{misplaced} only go with --method prune or prune-paper")
    detector = find_detector(method)
    case = load_case(suspect, reference, architecture, source, split, count, device, seed)
    own = case.images.subset(
        stratified(case.images, min(repair_images, len(case.images)), generator(seed, "repair images"))
    )
    with progress_bars() as progress:
        found = run_scan(
            Case(
                case.suspect,
                case.reference,
                case.chosen.images,
                case.chosen.labels,
                case.images.class_names,
            ),
            detector,
            seed=seed,
            progress=progress,
        )
        assert case.reference is not None
        repaired, report = run_repair(
            case.suspect,
            reference=case.reference,
            images=own.images,
            labels=own.labels,
            report=found,
            method=METHODS[repair_method],
            scan_method=None if method == options.DEFAULT_DETECTOR else detector,
            max_accuracy_drop=0.01 if max_accuracy_drop is None else max_accuracy_drop,
            seed=seed,
            progress=progress,
        )
    folder = out.parent
    save_repaired(repaired, out)
    write_text(folder / "repair.json", report.to_json() + "\n")
    page = save_scan(found, folder)
    click.echo(report.to_json() if as_json else f"{told(found)}\n{outcome(report)}\nReport: {page}")
    return EXIT_CODES[report.outcome]


def outcome(report: RepairReport) -> str:
    """A repair's outcome and reason for a person."""
    return f"{report.outcome.upper()}. {report.reason}"
