"""The losses of fedmend's contrastive search, and its measure of success."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, normalize

from fedmend.detection.contrastive_loss import StampedLoss
from fedmend.detection.model_pair import ModelPair

Exploration = Literal["aimed", "suspect", "full"]

_UNAIMED, _FADING = 9, 0.8


class ContrastiveObjective:
    """The search's losses; terms that depend only on the clean images are computed once.

    Args:
        pair: both models with their outputs on the clean images.
        alpha: weight of the SSIM term.
        exploration: the coarse loss, see :class:`~fedmend.detection.contrastive.Contrastive`.
    """

    def __init__(self, pair: ModelPair, alpha: float, exploration: Exploration) -> None:
        self.suspect, self.reference, self.exploration = pair.suspect, pair.reference, exploration
        self.full = StampedLoss(pair, alpha)
        (suspect_clean, suspect_logits), (reference_clean, logits) = pair.suspect_clean, pair.reference_clean
        self.positive = cosine_similarity(reference_clean, suspect_clean, dim=-1)
        self.direction = normalize(reference_clean, dim=-1)
        self.classes = logits.argmax(1)
        self.probabilities = suspect_logits.softmax(-1)
        self.pushed: Tensor | None = None
        self.explored = 0

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """Eq. 1 and the SSIM term, (S,)."""
        return self.full(stamped, chosen)

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """Eq. 1 without SSIM, assuming unchanged reference features, so only the suspect runs.

        Call it once per exploration step. An aimed patch's loss becomes the cross-entropy of the class to which it has
        pushed its images most, with more weight on recent steps.
        """
        if self.exploration == "full":
            return self.loss(stamped, chosen)
        features, logits = (
            outputs.unflatten(0, stamped.shape[:2]) for outputs in self.suspect(stamped.flatten(0, 1))
        )
        pushed = (logits.detach().softmax(-1) - self.probabilities[chosen]).mean(1)
        self.pushed = pushed if self.pushed is None else _FADING * self.pushed + pushed
        self.explored += 1
        if self.exploration == "aimed" and self.explored > _UNAIMED:
            aims = self.pushed.argmax(1)[:, None, None].expand(-1, stamped.shape[1], 1)
            return -log_softmax(logits, -1).gather(-1, aims).mean((1, 2))
        negative = (normalize(features, dim=-1) * self.direction[chosen]).sum(-1)
        return (negative - self.positive[chosen]).mean(-1)

    def success(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        """The fraction of images that only the suspect assigns to the target, (S,).

        The target is the suspect's most frequent prediction; images that the reference assigns to it unstamped are
        left out. For patches below ``at_least`` the reference isn't run, so images that it would send to the target
        are included.
        """
        predictions = self.suspect(stamped.flatten(0, 1))[1].argmax(1).unflatten(0, stamped.shape[:2])
        target = predictions.mode(dim=1, keepdim=True).values
        others = self.classes[chosen] != target
        hits = (predictions == target) & others
        fraction: Tensor = hits.sum(1) / others.sum(1).clamp_min(1)
        asked = (fraction >= at_least).nonzero().flatten()
        if len(asked):
            fooled = self.reference(stamped[asked].flatten(0, 1))[1].argmax(1).view(len(asked), -1)
            alone = hits[asked] & (fooled != target[asked])
            fraction[asked] = alone.sum(1) / others[asked].sum(1).clamp_min(1)
        return fraction
