"""Trigger inversion by contrastive loss (contrastive paper, 2.3 to 2.5 and Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, log_softmax, normalize

from fedmend.detection.search.budget_search import Recovered, Search
from fedmend.detection.search.features import Answers, FeatureMap
from fedmend.detection.search.ssim import SsimTo
from fedmend.errors import ConfigError
from fedmend.inference import frozen
from fedmend.progress import Progress, silent

_UNAIMED, _FADING = 9, 0.8


def contrastive_loss(reference_stamped: Tensor, suspect_clean: Tensor, suspect_stamped: Tensor) -> Tensor:
    """Eq. 1, averaged over the images: (S,) for S patches.

    ``-log(exp(sim(Mc(x'), Ms(x))) / exp(sim(Ms(x'), Mc(x'))))`` is the difference of two cosine similarities, in
    [-2, 2]: low where the stamp changes the suspect's features and leaves the reference's as they were.

    Args:
        reference_stamped: Mc(x'), features (S, N, F); likewise suspect_stamped, Ms(x').
        suspect_clean: Ms(x), features (S, N, F).
    """
    positive = cosine_similarity(reference_stamped, suspect_clean, dim=-1)
    negative = cosine_similarity(suspect_stamped, reference_stamped, dim=-1)
    return (negative - positive).mean(-1)


@dataclass(frozen=True)
class Contrastive:
    """Learn a mask and a pattern that change the suspect's features and leave the reference's as they were.

    The loss is Eq. 4: contrastive + ``alpha`` * (-SSIM) + beta * L1 of the mask. The paper picks alpha and beta by
    hand for each dataset (A.2; ``PAPER_SETTINGS``). The default gives the L1 norm a budget instead of the weight beta,
    see :class:`Search`, and needs no tuning. A trigger works as far as the suspect sends images to one class that the
    reference keeps apart from it.

    Attributes:
        alpha: weight of the SSIM term, 0 or more.
        layer: whose outputs are the features: "logits", or a submodule's name.
        search: the gradient descent's settings, beta or the budget among them.
        thorough: explore by the whole loss. By default by the suspect alone, as if no stamp changed the reference's
            features: half the cost and enough for a verdict, but the starts' patches hold more stray pixels.
        aimed: whether, after nine steps of an exploration that isn't thorough, each start aims at the class to which
            it has pushed images most (ours: a trigger sends every image to one class, while Eq. 1 is content with
            another class for each).
        half: whether a scan by logits searches in half precision, where the models aren't small and the CPU multiplies
            bfloat16 itself. The verdict's evidence is measured in single precision.

    Raises:
        ConfigError: alpha is negative.
    """

    alpha: float = 0.1
    layer: str = "logits"
    search: Search = field(default_factory=Search)
    thorough: bool = False
    aimed: bool = True
    half: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < float("inf"):
            raise ConfigError(f"alpha must be 0 or more; got {self.alpha}")

    def __call__(
        self,
        suspect: nn.Module,
        reference: nn.Module,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress = silent,
        clean: tuple[Answers, Answers] | None = None,
    ) -> Recovered:
        """Search for a trigger.

        Args:
            suspect, reference: models with the same classes, on the images' device; left as found.
            images: float (N, C, H, W) in [0, 1].
            generator: on the CPU, for the random starts and the choice of images.
            progress: called as ``progress("trigger inversion", step, steps)``.
            clean: the suspect's and the reference's features and logits on the images, where they are known already.

        Raises:
            ModelError: a model answers NaN, or has no layer ``layer``.
        """
        with frozen(suspect, reference):
            pair = FeatureMap(suspect, self.layer), FeatureMap(reference, self.layer)
            if clean is None:
                with torch.no_grad():
                    clean = pair[0](images), pair[1](images)
            objective = _Contrast(*pair, images, clean, self)
            return self.search(objective, images, generator, progress)

    def control(self, max_mask_share: float) -> Contrastive:
        """The same method for a control: a patch of at most this share of the image, in (0, 1], by a shorter search.

        A third of the starts, three fifths of the exploration's steps and two finalists are enough: where honest
        training set two models apart, most starts lead to a patch. It ends with the first one that works. (The paper's
        search has no starts and no budget, and is what it was.) It isn't aimed: it is asked whether honest training
        explains what was found, not whether something can be found.
        """
        shorter = replace(
            self.search,
            max_mask_share=max_mask_share,
            small=1.0,
            starts=max(1, self.search.starts // 3),
            explore=max(1, 3 * self.search.explore // 5),
            early=False,
            finalists=2,
        )
        return replace(self, search=shorter, aimed=False)


class _Contrast:
    """The search's objective; what depends on the clean images alone is computed once."""

    def __init__(
        self,
        suspect: FeatureMap,
        reference: FeatureMap,
        images: Tensor,
        clean: tuple[Answers, Answers],
        method: Contrastive,
    ) -> None:
        self.suspect, self.reference, self.method = suspect, reference, method
        (self.suspect_clean, suspect_logits), (self.reference_clean, logits) = clean
        self.positive = cosine_similarity(self.reference_clean, self.suspect_clean, dim=-1)
        self.direction = normalize(self.reference_clean, dim=-1)
        self.classes = logits.argmax(1)
        self.similarity = SsimTo(images)
        self.probabilities = suspect_logits.softmax(-1)
        self.pushed: Tensor | None = None
        self.explored = 0

    def loss(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """Eq. 1 and the SSIM term."""
        features, reference_features = (
            of(stamped.flatten(0, 1))[0].unflatten(0, stamped.shape[:2])
            for of in (self.suspect, self.reference)
        )
        loss = contrastive_loss(reference_features, self.suspect_clean[chosen], features)
        return loss - self.method.alpha * self.similarity(stamped, chosen)

    def coarse(self, stamped: Tensor, chosen: Tensor) -> Tensor:
        """Eq. 1 as if no stamp changed the reference's features, so that only the suspect is asked; no SSIM.

        To be called once a step of one exploration. An aimed patch's loss becomes the cross-entropy of the class to
        which it has pushed its images most, lately above all.
        """
        if self.method.thorough:
            return self.loss(stamped, chosen)
        features, logits = (
            answers.unflatten(0, stamped.shape[:2]) for answers in self.suspect(stamped.flatten(0, 1))
        )
        pushed = (logits.detach().softmax(-1) - self.probabilities[chosen]).mean(1)
        self.pushed = pushed if self.pushed is None else _FADING * self.pushed + pushed
        self.explored += 1
        if self.method.aimed and self.explored > _UNAIMED:
            aims = self.pushed.argmax(1)[:, None, None].expand(-1, stamped.shape[1], 1)
            return -log_softmax(logits, -1).gather(-1, aims).mean((1, 2))
        negative = (normalize(features, dim=-1) * self.direction[chosen]).sum(-1)
        return (negative - self.positive[chosen]).mean(-1)

    def works(self, stamped: Tensor, chosen: Tensor, at_least: float) -> Tensor:
        """Of the images whose class isn't the most frequent answer, the share that the suspect alone sends there.

        Where the suspect sends fewer there than ``at_least``, the reference isn't asked, and images that it would send
        there, too, count.
        """
        answers = self.suspect(stamped.flatten(0, 1))[1].argmax(1).unflatten(0, stamped.shape[:2])
        target = answers.mode(dim=1, keepdim=True).values
        others = self.classes[chosen] != target
        hits = (answers == target) & others
        share: Tensor = hits.sum(1) / others.sum(1).clamp_min(1)
        asked = (share >= at_least).nonzero().flatten()
        if len(asked):
            fooled = self.reference(stamped[asked].flatten(0, 1))[1].argmax(1).view(len(asked), -1)
            alone = hits[asked] & (fooled != target[asked])
            share[asked] = alone.sum(1) / others[asked].sum(1).clamp_min(1)
        return share


THOROUGH = Contrastive(
    search=Search(
        steps=60,
        lr=0.2,
        small=0.0,
        starts=16,
        explore=80,
        early=False,
        batch_size=8,
        finalists=None,
        refine_batch_size=40,
        stride=10,
    ),
    thorough=True,
    half=False,
)
"""Many times the cost of the default; what it finds is nearer to the whole of the planted trigger."""

PAPER_SETTINGS = {
    "mnist": Contrastive(half=False, alpha=0.5, search=Search(beta=0.01, steps=500, lr=0.1)),
    "cifar10": Contrastive(half=False, alpha=0.001, search=Search(beta=0.0005, steps=500, lr=0.1)),
    "gtsrb": Contrastive(half=False, alpha=0.001, search=Search(beta=0.005, steps=500, lr=0.1)),
}
"""The paper's alpha and beta by dataset, with its 500 epochs (A.2)."""
