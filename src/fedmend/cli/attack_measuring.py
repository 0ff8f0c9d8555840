"""The attack's success before and after a repair, where the model is of a simulated run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from fedmend.data import load_images
from fedmend.data.same_images import among
from fedmend.errors import FedmendError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import RunFolder, load_attacks
from fedmend.pages import AttackEvaluation


def measure_attack(
    suspect_file: Path, suspect: nn.Module, repaired: nn.Module | None, learned: Tensor
) -> AttackEvaluation | None:
    """Measure with the attackers' own triggers, on the run's test images but for those that the repair learned from.

    Call it when the repair is over: it opens the run's folder ``attacker/``, which no defence may.

    Args:
        suspect_file: the suspect's model file.
        suspect: the model in it.
        repaired: None if the repair failed.
        learned: images that the repair may have learned from, (N, C, H, W).

    Returns:
        None if the file isn't a checkpoint in the folder of a run, or the run is honest, damaged, or without other test
        images.
    """
    checkpoint = suspect_file.resolve()
    run = RunFolder(checkpoint.parent.parent)
    if checkpoint.parent != run.checkpoint(0).parent or not run.config_file.exists():
        return None
    try:
        test = load_images(run.config().data.source, "test")
        attacks = load_attacks(run, test)
        others = (~among(test.images, learned)).nonzero().flatten()
        images, labels = test.images[others], test.labels[others]
        if not attacks or not len(others):
            return None
        models = (suspect,) if repaired is None else (suspect, repaired)
        rates = [
            tuple(
                attack_success_rate(model, attack.trigger, attack.goal, images, labels) for attack in attacks
            )
            for model in models
        ]
    except FedmendError:  # the repair's own results are no less true
        return None
    return AttackEvaluation(
        num_images=len(others),
        accuracy_before=accuracy(suspect, images, labels),
        asr_before=rates[0],
        accuracy_after=None if repaired is None else accuracy(repaired, images, labels),
        asr_after=None if repaired is None else rates[1],
    )


def in_words(measured: AttackEvaluation | None) -> str:
    """A line for a terminal, with its line break; nothing without a measurement."""
    if measured is None:
        return ""
    after = "" if measured.asr_after is None else f", {rates_in_words(measured.asr_after)} after"
    before = rates_in_words(measured.asr_before)
    return f"Attack success rate (known only in a simulation): {before} before{after}.\n"


def rates_in_words(rates: Sequence[float]) -> str:
    """The success rates of one or several attacks."""
    return " and ".join(f"{rate:.1%}" for rate in rates)
