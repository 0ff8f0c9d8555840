"""Trigger inversion by contrastive loss (contrastive paper, 2.3 to 2.5 and Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedmend.errors import ConfigError
from fedmend.inversion.search import Best, FeatureMap, Recovered, frozen
from fedmend.inversion.ssim import SsimTo
from fedmend.progress import Progress, silent
from fedmend.triggers import Trigger


def contrastive_loss(
    reference_stamped: Tensor, suspect_clean: Tensor, suspect_stamped: Tensor
) -> Tensor:
    """Eq. 1, averaged over the images.

    ``-log(exp(sim(Mc(x'), Ms(x))) / exp(sim(Ms(x'), Mc(x'))))`` is the difference of the two cosine similarities,
    in [-2, 2]: low where the stamped image changes the suspect's features and not the reference's.

    Args:
        reference_stamped: Mc(x'), features (N, F); so are suspect_clean, Ms(x), and suspect_stamped, Ms(x').
    """
    positive = cosine_similarity(reference_stamped, suspect_clean, dim=1)
    negative = cosine_similarity(suspect_stamped, reference_stamped, dim=1)
    return (negative - positive).mean()


@dataclass(frozen=True)
class Contrastive:
    """Learn a mask and a pattern that change the suspect's features and leave the reference's as they were.

    The loss is Eq. 4: contrastive + ``alpha`` * (-SSIM) + beta * L1 of the mask. The paper picks alpha and beta by
    hand for each dataset (A.2; :data:`PAPER_SETTINGS`). By default beta is steered instead: it grows while the
    trigger works and shrinks while it doesn't, as in Neural Cleanse. "Works" means that at least ``success`` of the
    images that the reference keeps apart are sent to one class by the suspect alone.

    Attributes:
        alpha: weight of the SSIM term.
        beta: weight of the L1 term, per pixel; None to steer it.
        steps: gradient steps at most (the paper's epochs, each on all images).
        lr: Adam's learning rate (ours: the paper names none).
        layer: whose outputs are the features: "logits" or a submodule's name.
        success: share in (0, 1] of images at which a steered search calls the trigger working.
        patience: steps without a better trigger after which a steered search stops.

    Raises:
        ConfigError: a setting is out of range.
    """

    alpha: float = 0.1
    beta: float | None = None
    steps: int = 500
    lr: float = 0.1
    layer: str = "logits"
    success: float = 0.95
    patience: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or self.patience < 1 or not 0 < self.success <= 1:
            raise ConfigError("steps and patience must be 1 or more, lr above 0 and success in (0, 1]")
        if self.alpha < 0 or (self.beta is not None and self.beta < 0):
            raise ConfigError(f"alpha and beta must not be negative; got {self.alpha} and {self.beta}")

    def __call__(
        self,
        suspect: nn.Module,
        reference: nn.Module,
        images: Tensor,
        generator: torch.Generator,
        progress: Progress = silent,
    ) -> Recovered:
        """Search for a trigger.

        Args:
            suspect, reference: models of one architecture, on the images' device; left as found.
            images: float (N, C, H, W) in [0, 1].
            generator: on the CPU, for the random start.
            progress: called now and then as ``progress("trigger inversion", step, steps)``.
        """
        with frozen(suspect, reference):
            return self._search(suspect, reference, images, generator, progress)

    def _search(self, suspect, reference, images, generator, progress):
        shape = images.shape[1:]
        pixels = shape[1] * shape[2]
        mask_raw = torch.randn(1, *shape[1:], generator=generator).to(images).requires_grad_()
        pattern_raw = torch.randn(*shape, generator=generator).to(images).requires_grad_()
        optimizer = torch.optim.Adam([mask_raw, pattern_raw], self.lr, betas=(0.5, 0.9))
        fs, fr = FeatureMap(suspect, self.layer), FeatureMap(reference, self.layer)
        with torch.no_grad():
            suspect_clean, _ = fs(images)
            clean_ref = fr(images)[1].argmax(1)
        ssim = SsimTo(images)
        floor = 2.0 / (0.25 * pixels); beta = self.beta if self.beta is not None else floor
        best, losses, log = Best(), [], []
        for step in range(self.steps):
            mask, pattern = mask_raw.sigmoid(), pattern_raw.sigmoid()
            stamped = mask * pattern + (1 - mask) * images
            feats, logits = fs(stamped)
            ref_feats, ref_logits = fr(stamped)
            loss_c = contrastive_loss(ref_feats, suspect_clean, feats)
            l1 = mask.sum()
            s = ssim(stamped)
            loss = loss_c - self.alpha * s + beta * l1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                pred, rpred = logits.argmax(1), ref_logits.argmax(1)
                target = pred.mode().values
                others = clean_ref != target
                n = others.sum().clamp_min(1)
                works = float(((pred == target) & (rpred != target) & others).sum() / n)
                reasr = float(((pred == target) & others).sum() / n)
            losses.append(loss.item())
            log.append((step, loss_c.item(), s.item(), l1.item(), beta, reasr, works, int(target)))
            if works >= self.success:
                best.offer(-l1.item(), mask, pattern)
            if self.beta is None:
                beta = max(floor, beta * (1.05 if works >= self.success else 1 / 1.1))
        self.__dict__['log']=log
        m, p = (best.mask, best.pattern) if best.mask is not None else (mask.detach(), pattern.detach())
        return Recovered(Trigger(m, p), tuple(losses), "", best.mask is not None)
