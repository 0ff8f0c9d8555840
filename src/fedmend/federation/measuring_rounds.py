"""What a simulation writes down about each round: accuracy, and each attack's success rate."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import nn

from fedmend.checkpoints import load_checkpoint
from fedmend.data import ImageSet
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation.attacker_folder import AttackRecord
from fedmend.federation.client_fit import Refused
from fedmend.federation.run_folder import RoundRecord, RunFolder
from fedmend.federation.world import Federation, attackers_in, choose_clients
from fedmend.seeds import derive_seed, seeded


@dataclass(frozen=True, eq=False)
class Noted:
    """What happened in a round.

    Attributes:
        seconds: its duration. refused: clients whose updates did not count.
        candidate: the model before the review. decision: the review's, in a word; None without one.
    """

    seconds: float
    refused: tuple[Refused, ...]
    candidate: nn.Module
    decision: str | None


class RoundRecords:
    """Measures the global model on the test images, which are moved to the device once, and writes the lines."""

    def __init__(
        self, run: RunFolder, federation: Federation, test: ImageSet, device: torch.device | str
    ) -> None:
        self.run, self.federation = run, federation
        self.images, self.labels = test.images.to(device), test.labels.to(device)

    def append(self, number: int, model: nn.Module, noted: Noted) -> None:
        """Measure the global model after a round, and write its lines with what was noted in it."""
        if self.federation.attacks:
            record = self._of_attackers(number, model)
            if noted.decision is not None:
                record = replace(record, candidate_asr=self._candidate_asr(record, model, noted.candidate))
            self.run.attacker.lines.append(record)
        record_of_server = self._of_server(number, model)
        self.run.lines.append(
            replace(record_of_server, seconds=noted.seconds, refused=noted.refused, decision=noted.decision)
        )

    def fill_up_to(self, done: int, model: nn.Module) -> None:
        """Measure the checkpoints whose lines a killed run did not write; overwrites ``model``'s weights."""
        expected = set(range(self.federation.config.model.start_round, done + 1))
        missing = expected - {record.round for record in self.run.records()}
        hidden = expected - {record.round for record in self.run.attacker.records()}
        hidden = hidden if self.federation.attacks else set()
        for number in sorted(missing | hidden):
            load_checkpoint(self.run.checkpoint(number), model)
            if number in hidden:
                self.run.attacker.lines.append(self._of_attackers(number, model))
            if number in missing:
                self.run.lines.append(self._of_server(number, model))
        if missing or hidden:
            self.run.tidy()

    def _of_server(self, number: int, model: nn.Module) -> RoundRecord:
        config = self.federation.config
        first = number == config.model.start_round
        with self._seeded(number):
            return RoundRecord(
                round=number,
                accuracy=accuracy(model, self.images, self.labels),
                clients=() if first else choose_clients(config, number),
                seconds=None,
            )

    def _of_attackers(self, number: int, model: nn.Module) -> AttackRecord:
        config = self.federation.config
        first = number == config.model.start_round
        with self._seeded(number):
            return AttackRecord(
                round=number,
                attackers=() if first else attackers_in(config, number),
                asr=self._asr(model),
            )

    def _candidate_asr(
        self, record: AttackRecord, model: nn.Module, candidate: nn.Module
    ) -> tuple[float, ...]:
        if candidate is model:
            return record.asr
        with self._seeded(record.round):
            return self._asr(candidate)

    def _asr(self, model: nn.Module) -> tuple[float, ...]:
        return tuple(
            attack_success_rate(model, attack.trigger, attack.goal, self.images, self.labels)
            for attack in self.federation.attacks
        )

    def _seeded(self, number: int) -> AbstractContextManager[None]:
        return seeded(derive_seed(self.federation.config.seed, "measure", number), self.images.device)
