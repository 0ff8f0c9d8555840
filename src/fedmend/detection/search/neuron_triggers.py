"""Patches that activate given neurons, all of them optimised in one batch (ABS, Section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fedmend.checked_settings import Count, NonNegative, Positive, PositiveFraction, settings
from fedmend.detection.hidden_layers import outputs_of
from fedmend.detection.model_checks import require_slope
from fedmend.detection.search.patches import Patches
from fedmend.detection.stimulation import Neuron
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch

_OFFSET = -2.0
_ASLEEP = 0.1
"""What a negative activation counts as against a positive one: enough that a sleeping neuron wakes."""


@settings
class NeuronTriggers:
    """Maximise each neuron's mean positive activation by a small patch, while the layer's others stay quiet.

    Attributes:
        size: the most pixels of a patch, a fraction of the image.
        steps: gradient steps.
        lr: Adam's learning rate.
        others: weight of the layer's mean positive activation, as against the neuron's own.
    """

    size: PositiveFraction = 0.06
    steps: Count = 200
    lr: Positive = 0.1
    others: NonNegative = 0.01

    def __call__(
        self,
        model: nn.Module,
        neurons: Sequence[Neuron],
        pixels: Tensor,
        rng: torch.Generator,
        at_once: int,
        progress: Progress = silent,
    ) -> list[Patch]:
        """A patch for each neuron, on the CPU.

        Args:
            model: pixels (N, C, H, W) to logits, with frozen weights.
            neurons: of its layers.
            pixels: a few clean images (N, C, H, W).
            rng: on the CPU, for the patches to start with.
            at_once: how many images may go through the model, forward and backward; those of one neuron always do.
            progress: called as ``progress("triggers of neurons", step, steps)``.

        Raises:
            ModelError: an activation is NaN or infinite, or none of the neurons passes a gradient other than zeros.
        """
        limit = max(1.0, self.size * pixels.shape[2] * pixels.shape[3])
        starts = Patches.random(len(neurons), pixels, rng, _OFFSET)
        group = max(1, at_once // len(pixels))
        layers = list(dict.fromkeys(neuron.layer for neuron in neurons))
        with outputs_of(model, layers) as outputs:

            def activations(images: Tensor) -> Tensor:
                model(images)
                return torch.cat([outputs[each.layer][:, each.channel].flatten(1) for each in neurons], 1)

            require_slope(activations, pixels, "the suspect")
            with torch.no_grad():
                model(pixels.clone())
            scales = {name: float(outputs[name].abs().amax().clamp_min(1e-6)) for name in layers}

            def losses(stamped: Tensor, of: Sequence[Neuron]) -> Tensor:
                model(stamped.flatten(0, 1).clone())
                return self._losses(of, outputs, scales, len(pixels))

            found: list[Patch] = []
            for first in range(0, len(neurons), group):
                numbers = range(first, min(first + group, len(neurons)))
                patches, own = starts.only(numbers), [neurons[number] for number in numbers]
                for step in range(self.steps):
                    patches.descend(pixels[None], partial(losses, of=own), self.lr, limit)
                    done = first * self.steps + len(numbers) * (step + 1)
                    progress("triggers of neurons", done, len(neurons) * self.steps)
                found += [patch.to("cpu") for patch in patches.triggers(limit)]
        return found

    def _losses(
        self, neurons: Sequence[Neuron], outputs: dict[str, Tensor], scales: dict[str, float], images: int
    ) -> Tensor:
        """One loss for each neuron, (neurons,): an image's rows depend on one neuron's patch alone."""
        losses = []
        for number, neuron in enumerate(neurons):
            rows = outputs[neuron.layer][number * images : (number + 1) * images]
            own = nn.functional.leaky_relu(rows[:, neuron.channel], _ASLEEP).mean()
            loss = self.others * rows.clamp_min(0).mean() - own
            losses.append(loss / scales[neuron.layer])
        return torch.stack(losses)
