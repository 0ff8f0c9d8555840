"""What a malicious client answers when it is asked which channels to prune (federated-pruning paper, 4.1 and 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.errors import DataError


def false_activations(clean: Tensor, stamped: Tensor, share: float = 0.25) -> Tensor:
    """Activations that keep the backdoor's channels and give honest ones up for pruning.

    The paper only says that attackers "can return any pruning sequence they want". This is the strongest use of one
    ballot: the channels that the trigger excites most come out as the most active, and of the others the most active
    as the most dormant.

    Args:
        clean, stamped: true mean activations of the attacker's images without and with the trigger, (C,).
        share: share of the channels, at least one, that are taken for the backdoor's.

    Returns:
        (C,), to make a ballot of as usual.

    Raises:
        DataError: the two don't match.
    """
    if clean.shape != stamped.shape or clean.ndim != 1 or not len(clean):
        raise DataError(
            f"expected two vectors of as many channels; got {tuple(clean.shape)} and {tuple(stamped.shape)}"
        )
    excited = (stamped - clean).argsort(descending=True, stable=True)[: max(1, round(share * len(clean)))]
    answer = -clean.argsort(stable=True).argsort(stable=True).to(torch.float64)
    answer[excited] = torch.arange(len(excited), 0, -1, dtype=torch.float64, device=answer.device)
    return answer


def false_accuracies(points: int) -> Tensor:
    """Accuracies, float64 (points,), that say: prune nothing."""
    answer = torch.zeros(points, dtype=torch.float64)
    answer[0] = 1
    return answer
