"""Fine-tuning after pruning: rounds of the federation with the pruning mask held (federated-pruning paper, 4.4)."""

from __future__ import annotations

from torch import nn

from fedmend.federation.rounds import RoundPlan, collect, run_round
from fedmend.repairs.base import Context, require_participants
from fedmend.repairs.distillation import Distillation
from fedmend.repairs.group_selection import best_groups, resistance, trimmed
from fedmend.repairs.pruning_stages import Work
from fedmend.repairs.trigger_pool import TriggerPool


def plain_rounds(work: Work, context: Context, rounds: int) -> nn.Module:
    """The paper's fine-tuning: clients train on their labels, and the federation aggregates as usual.

    Args:
        work: the pruned model, left as found, and its mask.
        context: with participants; attackers attack in these rounds, too.
        rounds: number of rounds.

    Raises:
        ModelError: training diverged. DataError: no update can be used.
    """
    participants = require_participants(context)
    model, server = work.model, participants.server
    for done in range(1, rounds + 1):
        number = participants.last_round + done
        plan = RoundPlan(number, participants.seed, participants.training, work.mask)
        model, server = run_round(model, participants.choose(number), plan, server, participants.fit)
        context.progress("fine-tuning", done, rounds)
    return model


def distillation_rounds(
    work: Work, teacher: nn.Module, pool: TriggerPool, context: Context, settings: Distillation, rounds: int
) -> nn.Module:
    """Honest clients self-distil, and group selection limits the attackers' influence.

    With validation images, returns whichever model resists the triggers best: the pruned one or one after a round;
    without, the last one.

    Args:
        work: the pruned model, left as found, and its mask.
        teacher: the suspect.
        pool: the triggers that clients found.
        context: with participants; its images and labels are the validation images.
        settings: how clients distil.
        rounds: number of rounds.

    Raises:
        ModelError: training diverged. DataError: no client's update is finite.
    """
    participants = require_participants(context)
    validation = context.labelled_images
    model = chosen = work.model
    best = -1.0 if validation is None else resistance(model, validation, pool)
    for done in range(1, rounds + 1):
        number = participants.last_round + done
        task = pool.task(teacher, participants.training, settings, done)
        plan = RoundPlan(number, participants.seed, task, work.mask)
        collected = collect(model, participants.choose(number), plan, participants.fit)
        if validation is None:
            model = chosen = trimmed(model, collected, plan)
        else:
            model = best_groups(model, collected, plan, validation, pool)
            score = resistance(model, validation, pool)
            if score > best:
                best, chosen = score, model
        context.progress("fine-tuning", done, rounds)
    return chosen
