"""Fine-tuning after pruning: rounds of the federation with the pruning mask held (federated-pruning paper, 4.4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fedmend.federation.client_fit import RoundPlan
from fedmend.federation.rounds import collect, next_model
from fedmend.repairs.base import Context, require_participants
from fedmend.repairs.distillation import Distillation
from fedmend.repairs.group_selection import best_groups, resistance, trimmed
from fedmend.repairs.pruning_stages import Work
from fedmend.repairs.trigger_pool import TriggerPool


@dataclass(frozen=True)
class Rounds:
    """How many rounds of fine-tuning, and how many seconds to wait for each client in each."""

    count: int
    timeout: float


def plain_rounds(work: Work, context: Context, rounds: Rounds) -> nn.Module:
    """The paper's fine-tuning: clients train on their labels, and the federation aggregates as usual.

    Args:
        work: the pruned model, left as found, and its mask; takes a note of each update that is refused.
        context: with participants; attackers attack in these rounds, too.
        rounds: how many, and the timeout.

    Raises:
        DivergedError: every client's training diverged. DataError: no update can be used.
    """
    participants = require_participants(context)
    model, server = work.model, participants.server
    for done in range(1, rounds.count + 1):
        number = participants.last_round + done
        plan = RoundPlan(number, participants.seed, participants.training, work.mask, rounds.timeout)
        collected = collect(model, participants.choose(number), plan, participants.fit)
        work.note(number, collected.refused)
        model, server = next_model(model, collected, plan, server)
        context.progress("fine-tuning", done, rounds.count)
    return model


def distillation_rounds(
    work: Work,
    teacher: nn.Module,
    pool: TriggerPool,
    context: Context,
    settings: Distillation,
    rounds: Rounds,
) -> nn.Module:
    """Honest clients self-distil, and group selection limits the attackers' influence.

    With validation images, returns whichever model resists the triggers best: the pruned one or one after a round;
    without, the last one.

    Args:
        work: the pruned model, left as found, and its mask; takes a note of each update that is refused.
        teacher: the suspect.
        pool: the triggers that clients found.
        context: with participants; its images and labels are the validation images.
        settings: how clients distil.
        rounds: how many, and the timeout.

    Raises:
        DivergedError: every client's training diverged. DataError: no update can be used.
    """
    participants = require_participants(context)
    validation = context.labelled_images
    model = chosen = work.model
    best = -1.0 if validation is None else resistance(model, validation, pool)
    for done in range(1, rounds.count + 1):
        number = participants.last_round + done
        task = pool.task(teacher, participants.training, settings, done)
        plan = RoundPlan(number, participants.seed, task, work.mask, rounds.timeout)
        collected = collect(model, participants.choose(number), plan, participants.fit)
        work.note(number, collected.refused)
        if validation is None:
            model = chosen = trimmed(model, collected, plan)
        else:
            model = best_groups(model, collected, plan, validation, pool)
            score = resistance(model, validation, pool)
            if score > best:
                best, chosen = score, model
        context.progress("fine-tuning", done, rounds.count)
    return chosen
