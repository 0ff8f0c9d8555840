"""An additive trigger for every class from one generator, trained by the suspect alone (DeepInspect, step 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, NonNegative, Positive, settings
from fedmend.detection.lone_suspect import LoneSuspect
from fedmend.detection.search.chunking import in_chunks
from fedmend.detection.search.class_inversion import images_of_others
from fedmend.detection.search.inverted import Inverted
from fedmend.detection.search.penalty_schedule import Penalties, Schedule
from fedmend.detection.search.trigger_generator import Descent, TriggerGenerator
from fedmend.errors import ModelError
from fedmend.progress import Progress, silent
from fedmend.triggers import Addition

_STAGE = "trigger generation"


@settings
class GeneratedTriggers:
    """Adam on a conditional generator: the paper's losses of trigger, GAN and perturbation.

    They are cross-entropy, the squared distance of the target's probability from 1, and the L1 norm beyond a bound. The
    discriminator is the suspect itself, as in the paper, and isn't trained. All classes' triggers are made and judged
    in each step. Each class has its own weight of the norm and its own best trigger: the one of the smallest norm after
    a round of success.

    Attributes:
        rounds: most rounds; after each the weights are adjusted.
        batches: gradient steps a round.
        batch_size: images per class and gradient step.
        lr: Adam's learning rate.
        noise: dimensions of the generator's noise.
        realism: weight of the GAN's loss, the paper's gamma 1.
        bound: L1 norm up to which a trigger is free, the paper's gamma.
        schedule: of the weight of the norm, the paper's gamma 2.
    """

    rounds: Count = 150
    batches: Count = 2
    batch_size: Count = 32
    lr: Positive = 0.003
    noise: Count = 8
    realism: NonNegative = 0.05
    bound: NonNegative = 0.0
    schedule: Schedule = Schedule(success=0.95, stop_after=50)

    def __call__(
        self, suspect: LoneSuspect, rng: torch.Generator, progress: Progress = silent
    ) -> Inverted[Addition]:
        """Train the generator.

        Args:
            suspect: with images of two classes or more.
            rng: on the CPU, for weights, noise and the order of the images.
            progress: called as ``progress("trigger generation", round, rounds)``.

        Raises:
            ModelError: a loss became NaN or infinite.
        """
        images, device = suspect.images, suspect.images.device
        channels, height, width = images.shape[1:]
        generator = TriggerGenerator(suspect.classes, (channels, height, width), self.noise, rng, device)
        descent = Descent(generator.weights, self.lr)
        penalties = Penalties(suspect.classes, self.schedule, device)
        kept = torch.zeros(suspect.classes, *images.shape[1:], device=device)
        reached = torch.zeros(suspect.classes, dtype=torch.bool, device=device)
        ended = f"all {self.rounds} rounds were used"
        for done in range(1, self.rounds + 1):
            order = torch.randperm(len(images), generator=rng).to(device)
            everything = torch.arange(suspect.classes, device=device)
            chosen = images_of_others(order, suspect.truth, everything, self.batches * self.batch_size)
            rates, norms = torch.zeros(2, suspect.classes, device=device)
            for indices in chosen.split(self.batch_size, 1):
                triggers = generator()
                stamped = (images[indices] + triggers[:, None]).clamp(0, 1)
                losses, works = self._attack(suspect, stamped)
                sizes = triggers.abs().sum((1, 2, 3))
                descent.step((losses + penalties.weights * (sizes - self.bound).relu()).sum())
                rates, norms = rates + works, norms + sizes.detach()
            better = penalties.judge(rates / self.batches, norms / self.batches)
            new = better | ~reached
            kept[new] = triggers.detach()[new]
            reached |= better
            progress(_STAGE, done, self.rounds)
            if bool(penalties.finished.all()):
                progress(_STAGE, self.rounds, self.rounds)
                ended = f"no class's trigger gained any more after {done} of {self.rounds} rounds"
                break
        return Inverted(tuple(Addition(each) for each in kept), kept.abs().sum((1, 2, 3)), reached, ended)

    def _attack(self, suspect: LoneSuspect, stamped: Tensor) -> tuple[Tensor, Tensor]:
        """Each class's loss on its stamped images, and the fraction of them that is sent there, both (S,)."""
        count = stamped.shape[1]
        wanted = torch.arange(suspect.classes, device=stamped.device).repeat_interleave(count)
        works = torch.zeros_like(wanted, dtype=torch.bool)

        def of_images(images: Tensor, rows: slice) -> Tensor:
            logits = suspect.logits(images)
            works[rows] = logits.detach().argmax(1) == wanted[rows]
            nll = cross_entropy(logits, wanted[rows], reduction="none")
            return nll + self.realism * (nll.neg().exp() - 1).square()

        losses = in_chunks(of_images, stamped.flatten(0, 1), suspect.at_once).view(-1, count).mean(1)
        if not bool(losses.isfinite().all()):
            raise ModelError(
                "the search's loss became NaN or infinite; check that the model returns finite logits"
            )
        return losses, works.view(-1, count).float().mean(1)
