"""The contrastive loss (contrastive paper, Eq. 1), and the search's loss with SSIM (Eq. 4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from fedmend.detection.model_pair import ModelPair
from fedmend.detection.search.ssim import SsimTo


def contrast(reference_stamped: Tensor, suspect_clean: Tensor, suspect_stamped: Tensor) -> Tensor:
    """The contrastive loss, Eq. 1, averaged over the images: (S,) for S patches.

    ``-log(exp(sim(Mc(x'), Ms(x))) / exp(sim(Ms(x'), Mc(x'))))`` is the difference of two cosine similarities, in
    [-2, 2]. It is low if the stamp changes the suspect's features but not the reference's.

    Args:
        reference_stamped: Mc(x'), features (S, N, F).
        suspect_clean: Ms(x), features (S, N, F).
        suspect_stamped: Ms(x'), features (S, N, F).
    """
    positive = cosine_similarity(reference_stamped, suspect_clean, dim=-1)
    negative = cosine_similarity(suspect_stamped, reference_stamped, dim=-1)
    return (negative - positive).mean(-1)


class StampedLoss:
    """Eq. 4 without the mask's L1 term: contrastive loss + ``alpha`` * (-SSIM).

    Args:
        pair: both models with their outputs on the clean images.
        alpha: weight of the SSIM term.
    """

    def __init__(self, pair: ModelPair, alpha: float) -> None:
        self._pair, self._alpha = pair, alpha
        self.similarity = SsimTo(pair.images)

    def __call__(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """The loss of each patch, (S,); differentiable.

        Args:
            stamped: float (S, K, C, H, W).
            chosen: their indices among the pair's images, int64 (S, K).
        """
        features, reference_features = (
            of(stamped.flatten(0, 1))[0].unflatten(0, stamped.shape[:2])
            for of in (self._pair.suspect, self._pair.reference)
        )
        clean = self._pair.suspect_clean[0][chosen]
        loss = contrast(reference_features, clean, features)
        return loss - self._alpha * self.similarity(stamped, chosen)
