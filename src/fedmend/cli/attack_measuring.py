"""The attack's success before and after a repair, where the model is of a simulated run."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from fedmend.data import load_images
from fedmend.errors import FedmendError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder, load_attacks
from fedmend.pages import AttackEvaluation


def measure_attack(
    suspect_file: Path, suspect: nn.Module, repaired: nn.Module | None
) -> AttackEvaluation | None:
    """Measure with the attackers' own triggers, on the run's test images.

    Call it when the repair is over: it opens the run's folder ``attacker/``, which no defence may.

    Args:
        suspect_file: the suspect's model file.
        suspect: the model in it.
        repaired: None if the repair failed.

    Returns:
        None if the file isn't a checkpoint in the folder of a run, or the run is honest, damaged, or without its test
        images.
    """
    checkpoint = suspect_file.resolve()
    run = RunFolder(checkpoint.parent.parent)
    if checkpoint.parent != run.checkpoint(0).parent or not run.config_file.exists():
        return None
    try:
        test = load_images(run.config().data.source, "test")
        attacks = load_attacks(run, test)
    except FedmendError:  # the repair's own results are no less true
        return None
    if not attacks:
        return None
    images, labels = test.images, test.labels

    def success(model: nn.Module) -> tuple[float, ...]:
        return tuple(
            attack_success_rate(model, attack.trigger, attack.goal, images, labels) for attack in attacks
        )

    return AttackEvaluation(
        num_images=len(test),
        accuracy_before=accuracy(suspect, images, labels),
        asr_before=success(suspect),
        accuracy_after=None if repaired is None else accuracy(repaired, images, labels),
        asr_after=None if repaired is None else success(repaired),
    )


def in_words(measured: AttackEvaluation | None) -> str:
    """A line for a terminal, with its line break; nothing without a measurement."""
    if measured is None:
        return ""
    before = " and ".join(f"{rate:.1%}" for rate in measured.asr_before)
    after = "" if measured.asr_after is None else ", " + " and ".join(f"{r:.1%}" for r in measured.asr_after)
    return f"Attack success rate (known only in a simulation): {before} before{after and f'{after} after'}.\n"
