"""Runs a model on images: eval mode, devices, precision, batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from fedmend.pixels import to_float
from fedmend.triggers import Trigger, stamp

BATCH_SIZE = 500


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model and all its modules into eval mode; restore each module's mode at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode with frozen weights; restore both at the end."""
    parameters = list({id(p): p for model in models for p in model.parameters()}.values())
    needed = [parameter.requires_grad for parameter in parameters]
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, need in zip(parameters, needed, strict=True):
                parameter.requires_grad_(need)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, trigger: Trigger | None = None) -> Tensor:
    """The model's class for each image, int64 (N,), on the model's device.

    Args:
        model: run in eval mode; its modes are restored.
        images: (N, C, H, W), uint8 or float in [0, 1]; moved to the model's device batch by batch.
        trigger: stamped on the images first, if given.
    """
    predictions = []
    with evaluating(model):
        for batch in torch.split(images, BATCH_SIZE):
            pixels = pixels_for(model, batch)
            stamped = pixels if trigger is None else stamp(trigger, pixels)
            predictions.append(model(stamped).argmax(1))
    return torch.cat(predictions)


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's parameters; the CPU if it has none."""
    parameter = next(model.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


def pixels_for(model: nn.Module, images: Tensor) -> Tensor:
    """Images, uint8 or float in [0, 1], as floats of the model's dtype on its device."""
    like = next(model.parameters(), torch.empty(0))
    return to_float(images.to(like.device)).to(like.dtype)
