"""A short federation under attack, whose clients vote; its last layer has 4 channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_data import data, settings
from torch import nn

from fedmend.detection import Case
from fedmend.federation import RunFolder, load_federation, simulate
from fedmend.repairs import FederatedPruning, RepairReport, ValidationSet, repair_by_votes
from fedmend.repairs.simulated_run import participants_of, round_model

TRAIN, TEST = data()
ATTACK = {
    "trigger": {"kind": "pixels", "pattern": "9px"},
    "goal": {"kind": "one-to-one", "source": 0, "target": 1},
    "update": [{"kind": "amplify", "factor": 2.0}],
}


def attacked_run(folder: Path) -> RunFolder:
    """With the network that has batch normalisation and dropout."""
    config = settings(model={"architecture": "tiny_nets:conv"}, attack=[ATTACK])
    return simulate(config, folder, data=(TRAIN, TEST))


def voted(
    run: RunFolder,
    method: FederatedPruning,
    *choices: Any,
    validated: bool = True,
    reference_round: int | None = None,
    lying_clients: int | None = None,
) -> tuple[nn.Module | None, RepairReport, dict[str, Any]]:
    """The test images both choose and judge, unless the clients report."""
    federation = load_federation(run, TRAIN, lying_clients=lying_clients)
    participants = participants_of(run, federation)
    images = labels = None
    if validated:
        images, labels = TEST.images, TEST.labels
        participants = replace(participants, validation=ValidationSet(images, labels))
    reference = None if reference_round is None else round_model(run, TRAIN, reference_round)
    case = Case(round_model(run, TRAIN), reference, images, labels)
    return repair_by_votes(case, participants, method, *choices)


def details(report: RepairReport) -> Any:
    return report.details


def state(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])
