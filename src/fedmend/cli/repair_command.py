"""``fedmend repair``: remove the backdoor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from fedmend.cli import options
from fedmend.cli.attack_measuring import in_words, measure_attack
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars
from fedmend.cli.data_options import DataChoice
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.pruning_command import prune_run
from fedmend.cli.saving import make_way, save_repaired
from fedmend.cli.scan_command import save_scan, summary
from fedmend.detection import Effort
from fedmend.detection import scan as run_scan
from fedmend.errors import ConfigError
from fedmend.files import write_text
from fedmend.pages import write_evaluation
from fedmend.repairs import REPAIRS, FederatedPruning, HoldOutGate, RepairReport
from fedmend.repairs import repair as run_repair

HELD_OUT_IMAGES = 500
EXIT_CODES = {"repaired": 0, "not needed": 0, "failed": 1, "undecided": 3}


@click.command()
@options.suspect
@options.common(required=False)
@options.effort
@click.option(
    "--method",
    "repair_method",
    type=click.Choice(list(REPAIRS)),
    default="unlearn",
    show_default=True,
    help="How to repair: unlearn the triggers that a scan of a model file finds, or let the clients of a simulated run "
    "vote on what to prune; prune-paper follows the paper exactly.",
)
@click.option(
    "--scan-method", "method", default=options.DEFAULT_DETECTOR, show_default=True, help=options.DETECTOR_HELP
)
@click.option(
    "--repair-images",
    type=click.IntRange(min=20),
    default=2000,
    show_default=True,
    help="Most images to repair with; half of them are held out to judge the result. Unlearning only.",
)
@click.option(
    "--validation-images",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Images of the server's own that choose how far to prune and what to keep; 0: the clients report their "
    "accuracies. Pruning only.",
)
@click.option(
    "--held-out-images",
    type=click.IntRange(min=0),
    help="Further images of the server's own, which only judge the result. Pruning only.  "
    "[default: 500; 0 without --validation-images]",
)
@click.option(
    "--reference-round",
    type=click.IntRange(min=0),
    help="A round before any attack, whose model is the reference when the repaired model is scanned. "
    "Pruning only.  [default: no new scan]",
)
@click.option(
    "--vote",
    type=click.Choice(["ranking", "majority"]),
    help="What clients send for each channel: its rank, or one bit per pruning rate. "
    "Pruning only.  [default: ranking]",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    help="Rounds of fine-tuning by the clients, attackers included. Pruning only.  [default: 6]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many clients fine-tune at once, each in its own process. Pruning only.  "
    "[default: on a CPU, torch's threads]",
)
@click.option(
    "--delta",
    type=click.FloatRange(0, min_open=True),
    help="Set weights more than this many standard deviations from the mean to zero. Pruning only.  "
    "[default: the method's]",
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 1),
    help="Largest allowed drop of the clean accuracy, as a fraction, plus one standard error.  "
    "[default: 0.01; 0.05 when pruning]",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The repaired model, .safetensors. A file that is there already is an error.",
)
@click.option(
    "--overwrite", is_flag=True, help="Remove a file at --out before the work begins, whatever the outcome."
)
def repair(
    suspect: Path,
    reference: Path | None,
    model: ModelChoice,
    data: DataChoice,
    device: str,
    seed: int,
    as_json: bool,
    repair_method: str,
    method: str,
    effort: Effort | None,
    repair_images: int,
    validation_images: int,
    held_out_images: int | None,
    reference_round: int | None,
    vote: Literal["ranking", "majority"] | None,
    rounds: int | None,
    workers: int | None,
    delta: float | None,
    max_accuracy_drop: float | None,
    out: Path,
    overwrite: bool,
) -> int:
    """Scan the model file SUSPECT and, if it is backdoored, write a repaired model.

    With --method prune, SUSPECT is the folder of a run of fedmend simulate, and no prior scan is needed: the clients
    vote on the channels to prune, search for few-pixel triggers, and fine-tune the model against them.
    --reference, --model and --data are not needed. With --reference-round, the repaired model is scanned.

    The folder of --out also gets repair.json and report.html, and when unlearning scan.json and trigger.safetensors. A
    model is written only if it was repaired: on images that had no part in the repair its clean accuracy held and no
    trigger that was found still works, and no new scan finds a backdoor in it. Where there was no new scan, or clients
    reported the accuracy, the outcome says so. If SUSPECT is a checkpoint in the folder of a run of fedmend simulate,
    the attack's success before and after is measured when the repair is over.

    Exit code: 0 repaired or nothing to repair, 1 the repair failed, 2 bad input, 3 the scan was inconclusive.
    """
    repairer = REPAIRS[repair_method]
    if isinstance(repairer, FederatedPruning):
        _refuse(
            {
                "--reference": reference,
                "--model": model.architecture,
                "--data": data.source,
                "--effort": effort,
            },
            f"--method {repair_method}",
        )
        if held_out_images is None:
            held_out_images = HELD_OUT_IMAGES if validation_images else 0
        if validation_images and not held_out_images:
            raise ConfigError(
                "--held-out-images 0: a model that --validation-images chose is judged by other images; give some"
            )
        if reference_round is not None and not held_out_images:
            raise ConfigError("--reference-round is for a new scan, which needs --held-out-images above 0")
        make_way(out, overwrite, [suspect, *suspect.glob("checkpoints/*")])
        repairer = replace(
            repairer,
            vote=vote or repairer.vote,
            fine_tuning_rounds=repairer.fine_tuning_rounds if rounds is None else rounds,
            pruning=repairer.pruning if delta is None else replace(repairer.pruning, delta=delta),
        )
        report, text = prune_run(
            suspect,
            repairer,
            (validation_images, held_out_images),
            reference_round,
            max_accuracy_drop,
            workers,
            device,
            seed,
            out,
        )
        click.echo(report.to_json() if as_json else text)
        return EXIT_CODES[report.outcome]
    pruning_only: dict[str, object] = {
        "--vote": vote,
        "--rounds": rounds,
        "--delta": delta,
        "--workers": workers,
    }
    pruning_only |= {"--reference-round": reference_round, "--held-out-images": held_out_images}
    _refuse(pruning_only, "--method unlearn")
    if model.architecture is None or data.source is None:
        missing = {"--model": model.architecture, "--data": data.source}
        names = ", ".join(name for name, value in missing.items() if value is None)
        raise ConfigError(f"--method unlearn needs {names} as well")
    make_way(out, overwrite, [suspect] if reference is None else [suspect, reference])
    detector, gate = options.chosen_detector(method, effort), HoldOutGate()
    if method != options.DEFAULT_DETECTOR or effort is not None:
        gate = replace(gate, detector=detector)
    if max_accuracy_drop is not None:
        gate = replace(gate, max_accuracy_drop=max_accuracy_drop)
    loaded = load_case(suspect, reference, model, data, device, seed)
    own = loaded.repair_images(repair_images, seed)
    case = loaded.to_scan()
    with progress_bars() as progress:
        found = run_scan(case, detector, seed=seed, progress=progress)
        repaired, report = run_repair(
            replace(case, images=own.images, labels=own.labels),
            found,
            repairer,
            gate,
            seed=seed,
            progress=progress,
        )
    folder = out.parent
    save_repaired(repaired, out)
    write_text(folder / "repair.json", report.to_json() + "\n")
    measured = measure_attack(suspect, case.suspect, repaired)
    write_evaluation(folder, measured)
    page = save_scan(found, folder)
    text = f"{summary(found)}\n{outcome(report)}\n{in_words(measured)}Report: {page}"
    click.echo(report.to_json() if as_json else text)
    return EXIT_CODES[report.outcome]


def outcome(report: RepairReport) -> str:
    """A repair's outcome and reason for a person."""
    return f"{report.headline}. {report.reason}"


def _refuse(options_given: Mapping[str, object], by: str) -> None:
    names = ", ".join(name for name, value in options_given.items() if value is not None)
    if names:
        raise ConfigError(f"{by} does not accept {names}; remove it")
