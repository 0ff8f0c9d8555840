"""The options of ``fedmend repair``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import known_names, options


@options.command()
@options.suspect
@options.common(required=False)
@options.effort
@options.memory
@click.option(
    "--method",
    "repair_method",
    type=click.Choice(known_names.REPAIRS),
    default="unlearn",
    show_default=True,
    help="How to repair: unlearn the triggers that a scan of a model file finds, or let the clients of a simulated run "
    "vote on what to prune; prune-paper follows the paper exactly. The others are published methods for a model file. "
    "Of these, anp, bti-dbf, deep-sweep, fine-pruning, ft-sam and i-bau need no trigger, so they also repair a model "
    "whose scan was inconclusive.",
)
@click.option(
    "--scan-method",
    "method",
    default=options.DEFAULT_DETECTOR,
    show_default=True,
    metavar="NAME",
    shell_complete=options.complete_detector,
    help=options.DETECTOR_HELP,
)
@click.option(
    "--repair-images",
    type=click.IntRange(min=20),
    default=2000,
    show_default=True,
    help="Most images to repair with; half of them are held out to judge the result. Not with prune and prune-paper.",
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
    "Pruning only.  [default: no new scan; the outcome is unverified]",
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
    "--overwrite",
    is_flag=True,
    help="Remove a file at --out before the work begins, whatever the outcome, and give up earlier reports beside it.  "
    "[default: the reports are moved to a folder there, earlier-1 and so on]",
)
def repair(**given: Any) -> int:
    """Scan the model file SUSPECT and, if it is backdoored, write a repaired model.

    With --method prune, SUSPECT is the folder of a run of fedmend simulate, and no prior scan is needed: the clients
    vote on the channels to prune, search for triggers, and fine-tune the model against them.
    --reference, --model and --data are not needed. With --reference-round, the repaired model is scanned.

    The folder of --out also gets repair.json and report.html, and for a model file scan.json and trigger.safetensors. A
    model is written only if it was repaired: on images that had no part in the repair its clean accuracy held and no
    trigger that was found still works, and a new scan finds no backdoor in it. Where no new scan was possible, the
    outcome is "unverified": the model is written, but nothing shows that the backdoor is gone. If SUSPECT is a
    checkpoint in the folder of a run of fedmend simulate, the attack's success before and after is measured when the
    repair is over.

    Exit code: 0 repaired, 1 the repair failed, 2 bad input, 3 the scan was inconclusive and the method needs a trigger,
    4 nothing to repair, 5 unverified.
    """
    from fedmend.cli import repair_command  # imports torch

    return repair_command.repair(**given)
