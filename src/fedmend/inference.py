"""Runs a model on images: eval mode, devices, precision, batches."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from fedmend.errors import FedmendError, ModelError, is_out_of_memory
from fedmend.global_settings import settings_kept
from fedmend.pixels import to_float
from fedmend.triggers import Trigger, stamp
from fedmend.user_code import ctrl_c_noted, failures_as, in_one_line, tensor_in_words

BATCH_SIZE = 500
_BATCH_VALUES = 2**22
"""27 images of 3x224x224, whose activations take 0.3 GiB in a ResNet-50 and 1 GiB in a VGG."""
_SHOWN = 4


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model and all its modules into eval mode; restore each module's mode at the end."""
    with in_mode(model, training=False):
        yield


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a model and all its modules into train or eval mode; restore each module's mode at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """At the end, a model's buffers, which training changes, are as before."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode with frozen weights; restore both, and torch's settings, at the end.

    Compiled models run as they are before compilation, which a search's changes to them would end.
    """
    parameters = list({id(p): p for model in models for p in model.parameters()}.values())
    needed = [parameter.requires_grad for parameter in parameters]
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        stack.enter_context(settings_kept())
        if "torch._dynamo" in sys.modules:  # otherwise nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
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
        for batch in torch.split(images, batch_size_for(images)):
            pixels = pixels_for(model, batch)
            stamped = pixels if trigger is None else stamp(trigger, pixels)
            predictions.append(model(stamped).argmax(1))
    return torch.cat(predictions)


def batch_size_for(images: Tensor, most: int = BATCH_SIZE) -> int:
    """How many of the images (N, C, H, W) to predict at once: at most ``most``, and fewer large ones."""
    return max(1, min(most, _BATCH_VALUES // max(1, math.prod(images.shape[1:]))))


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's parameters; the CPU if it has none."""
    parameter = next(model.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


def pixels_for(model: nn.Module, images: Tensor) -> Tensor:
    """Images, uint8 or float in [0, 1], as floats of the model's dtype on its device.

    They are a copy, since a model may work in place.
    """
    like = next(model.parameters(), torch.empty(0))
    pixels = to_float(images.to(like.device)).to(like.dtype)
    return pixels.clone() if pixels.data_ptr() == images.data_ptr() else pixels


def logits_of(model: nn.Module, pixels: Tensor, name: str = "the model", *, training: bool = False) -> Tensor:
    """The model's logits, (N, classes), in eval mode and without gradients, or in train mode and with them.

    Args:
        model: its modes are restored.
        pixels: float (N, C, H, W), on the model's device and of its dtype; left as they are.
        name: of the model, in messages.
        training: run it in train mode; buffers, such as BatchNorm's statistics, and torch's random generator on the
            CPU are restored.

    Raises:
        ModelError: the model raises anything, even what would end Python, or returns something other than that.
    """
    shape = tuple(pixels.shape)
    with (
        failures_as(
            ModelError,
            f"{name} failed on images of shape (N, C, H, W) = {shape}",
            "check that it was built for this number of channels and this image size, and takes any number of images",
        ),
        buffers_kept(model) if training else nullcontext(),
        torch.random.fork_rng(devices=[], enabled=training),
        in_mode(model, training),
        torch.set_grad_enabled(training),
    ):
        logits = model(pixels.clone())
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"expected a model that returns a tensor of logits (N, classes); {name} returned a "
            f"{_contents(logits)}: fedmend.models.adapt makes a model return only the logits"
        )
    if (
        logits.ndim != 2
        or logits.shape[0] != shape[0]
        or logits.shape[1] < 2
        or not logits.is_floating_point()
    ):
        raise ModelError(
            "expected float logits of shape (N, classes), with 2 or more classes; "
            f"for N = {shape[0]} {name} returned {logits.dtype} of shape {tuple(logits.shape)}"
        )
    if logits.device != pixels.device:
        raise ModelError(
            f"{name} returned logits on the device {logits.device} for images on {pixels.device}; expected the same"
        )
    return logits


@contextmanager
def model_failures_named(*models: nn.Module) -> Iterator[None]:
    """Within, whatever is raised in the models' own code, even what would end Python, says so in one line.

    Raises:
        ModelError: an exception came from a line of a user's module in ``models``, or from TorchScript; others, and a
            :class:`FedmendError`, come out as they are.
    """
    with ctrl_c_noted() as pressed:
        try:
            yield
        except BaseException as error:
            if isinstance(error, FedmendError) or is_out_of_memory(error):
                raise
            if pressed and isinstance(error, KeyboardInterrupt):
                raise
            place = _place(error, models)
            if place is None:
                raise
            raise ModelError(f"the model failed{place}: {in_one_line(error)}") from error


def _place(error: BaseException, models: Sequence[nn.Module]) -> str | None:
    """The innermost line of a user's own modules; None if there is none."""
    names = {type(module).__module__ for model in models for module in model.modules()}
    own = [sys.modules.get(name) for name in names if name.partition(".")[0] not in ("torch", "fedmend")]
    files = {getattr(module, "__file__", None) for module in own}
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if lines:
        return f" at {lines[-1].filename}:{lines[-1].lineno}"
    return " in TorchScript" if isinstance(error, torch.jit.Error) else None


def _contents(output: object) -> str:
    """What a model returned in place of a tensor, with what is in it."""
    named = (
        output
        if isinstance(output, Mapping)
        else dict(enumerate(output))
        if isinstance(output, tuple | list)
        else {}
    )
    inside = ", ".join(f"{key}: {tensor_in_words(value)}" for key, value in list(named.items())[:_SHOWN])
    return f"{type(output).__name__} ({inside})" if inside else type(output).__name__
