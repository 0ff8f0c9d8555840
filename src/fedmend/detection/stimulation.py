"""Stimulates the neurons of a model, and finds those that raise one class's logit above all others (ABS, Section 4.1).

A neuron is a channel of a linear or convolution layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.detection.hidden_layers import outputs_of, per_image
from fedmend.inference import batch_size_for
from fedmend.progress import Progress, silent

LEVELS = (0.0, 1.0, 2.0, 4.0)
"""What a neuron is set to: multiples of its layer's largest value on clean images. The first is the baseline."""


@dataclass(frozen=True)
class Neuron:
    """A neuron that raises one class.

    Attributes:
        layer: its name, as in ``named_modules``. channel: its number there.
        target: the class.
        elevation: by how much more than any other class's it raises the class's logit, on the image where that is
            least.
    """

    layer: str
    channel: int
    target: int
    elevation: float


@torch.no_grad()
def elevations(
    model: nn.Module, layer: str, pixels: Tensor, channels: int, largest: float, progress: Progress = silent
) -> Tensor:
    """How far stimulating each neuron of a layer raises each logit above its value with the neuron at 0.

    Args:
        model: in eval mode.
        layer: its name.
        pixels: clean images (N, C, H, W).
        channels: how many the layer has.
        largest: the layer's largest value on clean images.
        progress: called as ``progress("stimulating neurons", done, total)``.

    Returns:
        The largest rise over the levels, (channels, N, classes).
    """
    module, count = model.get_submodule(layer), len(pixels)
    rows = torch.arange(channels * count, device=pixels.device)  # channel by channel, each with every image
    setting: list[tuple[Tensor, float]] = []

    def stimulate(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        chosen, value = setting[-1]
        changed = output.clone()
        first = changed.movedim(-1, 1) if isinstance(module, nn.Linear) else changed
        per_image(first, len(chosen), layer)  # refused if an image has no rows of its own
        places = torch.arange(len(first), device=first.device)
        first[places, chosen.repeat_interleave(len(first) // len(chosen))] = value
        return changed

    handle = module.register_forward_hook(stimulate)
    parts = []
    try:
        for part in rows.split(batch_size_for(pixels)):
            channel = torch.div(part, count, rounding_mode="floor")
            levels = []
            for level in LEVELS:
                setting.append((channel, level * largest))
                levels.append(model(pixels[part % count].clone()))
            parts.append(torch.stack(levels[1:]).amax(0) - levels[0])
            progress("stimulating neurons", int(part[-1]) + 1, len(rows))
    finally:
        handle.remove()
    rises: Tensor = torch.cat(parts).unflatten(0, (channels, count))
    return rises


def compromised(rises: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """For each neuron, the class that it raises most, and by how much more than any other class.

    Of each class the smallest rise over the images of other classes counts, so that a neuron must raise it on all.

    Args:
        rises: (channels, N, classes). truth: the images' classes, int64 (N,).

    Returns:
        Classes, int64 (channels,), and elevations, (channels,).
    """
    own = torch.nn.functional.one_hot(truth, rises.shape[2]).bool()
    least = rises.masked_fill(own, torch.inf).amin(1)
    least = least.where(least.isfinite(), 0.0)  # of a class of which all images are, nothing is known
    top = least.topk(2, dim=1)
    return top.indices[:, 0], top.values[:, 0] - top.values[:, 1]


def stimulated(
    model: nn.Module,
    layers: Sequence[str],
    pixels: Tensor,
    truth: Tensor,
    most_passes: int,
    progress: Progress = silent,
) -> tuple[list[Neuron], tuple[str, ...]]:
    """All neurons of the last layers, as many layers as the passes suffice for, but at least one.

    Args:
        model: in eval mode.
        layers: hidden ones, in the order in which they run.
        pixels: a few clean images (N, C, H, W). truth: their classes, int64 (N,).
        most_passes: how many images may go through the model.
        progress: called as ``progress("stimulating neurons", done, total)``.

    Returns:
        The neurons, and the layers that were left out.
    """
    sizes = dict(zip(layers, _sizes(model, layers, pixels), strict=True))
    rows = {name: channels * len(pixels) for name, (channels, _) in sizes.items()}
    taken = _last_layers(rows, most_passes // len(LEVELS))
    neurons: list[Neuron] = []
    done, total = 0, sum(rows[name] for name in taken)

    def further(stage: str, part: int, _of: int) -> None:
        progress(stage, done + part, total)

    for name in taken:
        rises = elevations(model, name, pixels, *sizes[name], further)
        done += rows[name]
        targets, values = compromised(rises, truth)
        neurons += [
            Neuron(name, channel, target, value)
            for channel, (target, value) in enumerate(zip(targets.tolist(), values.tolist(), strict=True))
        ]
    return neurons, tuple(layers[: len(layers) - len(taken)])


def _last_layers(rows: dict[str, int], most: int) -> list[str]:
    """The last of the layers whose rows together are at most so many, but at least one; last first."""
    taken: list[str] = []
    for name in reversed(rows):
        most -= rows[name]
        if most < 0 and taken:
            break
        taken.append(name)
    return taken


def chosen_neurons(neurons: Sequence[Neuron], most: int, per_class: int) -> list[Neuron]:
    """The neurons with the largest elevations: at most so many, and at most so many of one class.

    Args:
        neurons: in any order.
        most: in all.
        per_class: of one class.
    """
    found: list[Neuron] = []
    for neuron in sorted(neurons, key=lambda each: -each.elevation):
        if sum(each.target == neuron.target for each in found) < per_class and neuron.elevation > 0:
            found.append(neuron)
        if len(found) == most:
            break
    return found


@torch.no_grad()
def _sizes(model: nn.Module, layers: Sequence[str], pixels: Tensor) -> Iterator[tuple[int, float]]:
    """Each layer's number of channels, and its largest value on the images."""
    with outputs_of(model, layers) as outputs:
        model(pixels.clone())
    return iter([(outputs[name].shape[1], float(outputs[name].amax().clamp_min(1e-6))) for name in layers])
