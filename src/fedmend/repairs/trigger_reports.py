"""Whether the triggers that clients found still work in the repaired model, as the clients report it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedmend.detection import FoundTrigger
from fedmend.federation.clients import Client
from fedmend.pruning import Ballots
from fedmend.repairs.asking import Asking, ask
from fedmend.repairs.repair_report import TargetCheck
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.untrusted import FLOATS, plain_tensor


class TriggerReports(Ballots):
    """Collects each client's success rates of the pooled triggers on its own images.

    A trigger's success is the median over the clients that hold its source class. Where lying clients outnumber the
    honest ones among these, they decide.

    Args:
        triggers: how many there are.
        num_clients: number of clients, numbered from 0.

    Attributes:
        counted, refused: see :class:`~fedmend.pruning.Ballots`.
    """

    def __init__(self, triggers: int, num_clients: int) -> None:
        super().__init__(num_clients)
        self.triggers = triggers
        self._reports: list[Tensor] = []

    def add(self, client: int, successes: Tensor) -> str | None:
        """Add a client's rates, (triggers,), NaN where it has no image; returns why they were refused, or None."""
        report = plain_tensor(successes, FLOATS, (self.triggers,))
        flaw = None
        if report is None:
            flaw = "success rates of the wrong length or kind"
        elif bool(((report < 0) | (report > 1)).any()):
            flaw = "success rates below 0 or above 1"
        reason = self.admit(client, flaw)
        if reason is None and report is not None:
            self._reports.append(report.double())
        return reason

    def medians(self) -> list[float | None]:
        """Each trigger's median success, None where no client holds its source class."""
        if not self._reports:
            return [None] * self.triggers
        columns = [column[~column.isnan()] for column in torch.stack(self._reports, 1)]
        return [float(column.quantile(0.5)) if len(column) else None for column in columns]


def ask_for_successes(model: nn.Module, pool: TriggerPool, asking: Asking) -> TriggerReports:
    """Ask each client how well the pooled triggers work on its own images in a model."""
    triggers = tuple(trigger for _, trigger in pool.found)
    reports = TriggerReports(len(triggers), len(asking.clients))

    def successes(client: Client, number: int, copy: nn.Module) -> Tensor:
        return client.successes(copy, triggers)

    ask(asking, "", model, successes, reports)
    return reports


def reported_checks(
    triggers: Sequence[FoundTrigger],
    after: Sequence[float | None],
    reference: Sequence[float | None] | None = None,
) -> tuple[TargetCheck, ...]:
    """One check for each pair of classes: of its triggers, the one that exceeds the reference most after the repair.

    Args:
        triggers: with the rates that clients claimed in the suspect.
        after: each one's success in the repaired model; None: unknown.
        reference: likewise in a clean reference; None: there is none.
    """
    checks: dict[tuple[int, int], TargetCheck] = {}
    for trigger, success, clean in zip(triggers, after, reference or [None] * len(triggers), strict=True):
        if success is None:
            continue
        pair = trigger.source_class, trigger.target_class
        known = checks.get(pair)
        count = 1 if known is None else known.triggers + 1
        check = TargetCheck(pair[1], (pair[0],), trigger.rate, success, count, clean)
        checks[pair] = (
            check if known is None or check.excess > known.excess else replace(known, triggers=count)
        )
    return tuple(checks.values())
