"""What a model must be like before a search: the same logits for the same images, and nothing else touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fedmend.detection.base import Case
from fedmend.errors import ModelError
from fedmend.global_settings import generators_kept, settings_kept
from fedmend.inference import frozen, logits_of
from fedmend.user_code import failures_as

FEW_IMAGES = 8
"""So many show whether a model predicts as it should."""
_DIFFERENT = 1e-3


def check_predictions(case: Case) -> None:
    """Ask suspect and reference for a few predictions, in batches of several sizes.

    torch's settings, random generators and the models' buffers are left as found.

    Raises:
        ModelError: a model fails, returns something other than logits, differs when it is asked again, or changes its
            weights or buffers, the seed of a random generator, or a setting of torch.
    """
    models = {"the suspect": case.suspect}
    if case.reference is not None:
        models["the reference"] = case.reference
    for name, model in models.items():
        check_model(model, case.pixels[:FEW_IMAGES], name)


def require_gradient(model: nn.Module, images: Tensor, name: str, *, required: bool = True) -> None:
    """Check that a model's logits depend on the pixels in a way that a gradient search can follow.

    Args:
        model: in eval mode, with frozen weights.
        images: float (N, C, H, W), of the model's dtype and on its device.
        name: of the model, in messages.
        required: whether logits without a gradient are an error.

    Raises:
        ModelError: the model fails when gradients are computed, or its logits have none.
    """
    with failures_as(ModelError, f"{name} failed when gradients were computed"), torch.enable_grad():
        logits = model(images.clone().requires_grad_().clone())
        passes, switched_off = logits.requires_grad, not torch.is_grad_enabled()
    if switched_off:
        raise ModelError(
            f"{name} switches gradients off for all of torch when it predicts; use with torch.no_grad(): there"
        )
    if required and not passes:
        raise ModelError(
            f"{name} passes no gradient to its input, which this detector needs: its code detaches it, turns it into "
            "whole numbers, or runs under torch.no_grad(); take that out, or use a detector without gradients"
        )


def require_slope(outputs: Callable[[Tensor], Tensor], images: Tensor, name: str) -> None:
    """Check that outputs that a search follows change with the pixels, to first order.

    A model may round its pixels and still pass a gradient, of zeros. A search then finds nothing, whatever was planted.

    Args:
        outputs: of a model that passes no error of :func:`require_gradient`: images to a float tensor (N, ...).
        images: float (N, C, H, W), of the model's dtype and on its device.
        name: of the model, in messages.

    Raises:
        ModelError: the gradient is zero at every pixel of every image.
    """
    seen = images.clone().requires_grad_()
    with torch.enable_grad():
        values = outputs(seen.clone()).flatten(1)
        # A softmax's outputs add up to 1, so that their plain sum has no gradient; equal outputs mustn't cancel out.
        weights = torch.linspace(1, 2, values.shape[1]).to(values)
        (gradient,) = torch.autograd.grad((values * weights).sum(), seen)
    if not bool(gradient.any()):
        raise without_slope(name)


def without_slope(name: str) -> ModelError:
    """What to raise where a model's gradient is zero everywhere."""
    return ModelError(
        f"{name}'s gradient at the pixels is zero everywhere, so this detector would find nothing whatever was "
        "planted: the model rounds, or its outputs are saturated; take that out, or use a detector without gradients"
    )


def check_model(model: nn.Module, images: Tensor, name: str) -> int:
    """Check one model as :func:`check_predictions` does.

    Args:
        model: left as found.
        images: float (N, C, H, W), of the model's dtype and on its device.
        name: of the model, in messages.

    Returns:
        The number of its classes.

    Raises:
        ModelError: see :func:`check_predictions`.
    """
    as_found = {key: value.clone() for key, value in model.named_buffers()}
    with frozen(model), settings_kept() as changed:
        with generators_kept():
            for count in (1, 2):
                logits_of(model, images[:count], name)
        versions = {key: value._version for key, value in model.named_parameters()}
        buffers = {key: value.clone() for key, value in model.named_buffers()}
        logits, generators = [], []
        for seed in (1, 2):
            with generators_kept(seed) as states:
                logits.append(logits_of(model, images, name))
                generators.append(states())
        settings = changed()
    if settings:
        raise ModelError(f"{name} changes {settings[0]} when it predicts; take that out of its code")
    for generator, state in generators[0].items():
        if state == generators[1][generator]:  # though it started from another seed
            raise ModelError(
                f"{name} sets the seed of {generator} random generator when it predicts; take that out of its code"
            )
    touched = [key for key, value in model.named_parameters() if value._version != versions.get(key)]
    touched += [key for key, value in model.named_buffers() if not _same(value, buffers.get(key))]
    if touched:
        _put_back(model, as_found)
        raise ModelError(
            f"{name} changes its own {touched[0]} when it predicts, in eval mode; a model that keeps state between "
            "calls can't be scanned"
        )
    first, second = (each - each.mean(1, keepdim=True) for each in logits)
    difference = float((first - second).abs().max())
    if difference > _DIFFERENT * float(first.abs().max()):
        raise ModelError(
            f"{name} returns other logits for the same images when it is asked again (they differ by up to "
            f"{difference:.2g}): it draws at random, as with dropout left on in eval mode, or keeps state "
            "between calls; take that out"
        )
    return logits[0].shape[1]


def _same(value: Tensor, before: Tensor | None) -> bool:
    return before is not None and value.shape == before.shape and bool(value.eq(before).all())


@torch.no_grad()
def _put_back(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    for key, value in model.named_buffers():
        if key in buffers and value.shape == buffers[key].shape:
            value.copy_(buffers[key])
