"""Makes any classifier return logits (N, classes): what else networks return is found out once, and then converted.

What a network returns is a property of its architecture, which is the user's. So it is found out with the weights that
the factory gives it, and with random ones, never with those of a stranger's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.global_settings import generators_kept, settings_kept
from fedmend.inference import buffers_kept, in_mode, pixels_for
from fedmend.seeds import generator
from fedmend.user_code import failures_as

Form: TypeAlias = Literal["logits", "softmax", "sigmoid"]

_USUAL = ("logits", "out", "output", "outputs", "pred", "preds", "prediction", "predictions", "scores")
_SMALLEST = 1e-30
_NEAR_ONE = 1e-7
_SUM = 1e-3
_DRAWS = 12


@dataclass(frozen=True)
class Output:
    """Where in a network's output the logits are, and what they are.

    Attributes:
        place: an index of a tuple, a key of a dict or an attribute's name; None if the output is the tensor itself.
        form: unnormalised logits (or log-probabilities), probabilities that sum to 1, or probabilities each by itself.
        single: whether there is one number per image, for the second of two classes.
    """

    place: int | str | None = None
    form: Form = "logits"
    single: bool = False

    def to_logits(self, output: Any) -> Tensor:
        """A network's output to logits (N, classes), differentiable; softmax of them gives the probabilities."""
        values: Tensor = _at(output, self.place)
        if self.form == "softmax":
            values = values.clamp_min(_SMALLEST).log()
        elif self.form == "sigmoid":
            values = values.clamp(_SMALLEST, 1 - _NEAR_ONE).logit()
        if self.single:
            half = values.reshape(-1) / 2
            values = torch.stack([-half, half], 1)
        return values


@dataclass(frozen=True)
class ToLogits:
    """A forward hook that returns logits in place of a network's output.

    Attributes:
        evaluating, training: the outputs in each mode; many networks return more, or logits instead of probabilities,
            while they are trained.
    """

    evaluating: Output
    training: Output

    def __call__(self, model: nn.Module, inputs: object, output: Any) -> Tensor:
        """See :meth:`torch.nn.Module.register_forward_hook`."""
        return (self.training if model.training else self.evaluating).to_logits(output)


def adapt(model: nn.Module, *, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """Make ``model`` return logits (N, classes), in place; weights and their names stay.

    It converts a tuple, dict or object that holds logits, also if only in train mode; softmax, sigmoids, and one output
    for two classes. Log-softmax is used as it is. What isn't recognised stays; :func:`fedmend.models.probe` refuses it.
    Python's, NumPy's and torch's random generators, torch's settings, the weights and the modes are left as found.

    Args:
        model: with the weights that its factory gives it.
        num_classes, in_channels, image_size: see :func:`fedmend.models.build_model`.

    Raises:
        ModelError: the model must be converted but is TorchScript, which takes no hook.
    """
    images = torch.rand(2, in_channels, *image_size, generator=generator(0, "adapt"))
    found = []
    with settings_kept(), generators_kept(0):
        for training in (False, True):
            try:
                with (
                    torch.no_grad(),
                    buffers_kept(model),
                    failures_as(ModelError, "the model failed"),
                    in_mode(model, training),
                ):
                    found.append(_output(model, pixels_for(model, images), num_classes))
            except ModelError:
                found.append(None)
    evaluating = found[0] or Output()
    training_too = found[1] or (Output() if found[0] is None else found[0])
    if evaluating == training_too == Output():
        return model
    try:
        model.register_forward_hook(ToLogits(evaluating, training_too))
    except RuntimeError as error:
        raise ModelError(
            f"a {type(model).__name__} must return logits (N, {num_classes}) alone, since TorchScript can't be "
            "converted; change its forward, or name a factory of the network before scripting"
        ) from error
    return model


def _output(model: nn.Module, images: Tensor, classes: int) -> Output | None:
    """What the model returns in the mode that it is in; None if that isn't recognised."""
    place = _place(model(images.clone()), images, classes)
    if place == _NOWHERE:
        return None

    def values(scale: float) -> Tensor:
        found: Tensor = _at(model(scale * images), place)
        return found.reshape(len(images), -1)

    single = values(1).shape[1] == 1
    form: Form = "logits"
    if _always(_sums_to_one, model, values) and not single:
        form = "softmax"
    elif _always(_in_range, model, values):
        form = "sigmoid"
    return Output(place, form, single)


_NOWHERE = -1


def _place(output: Any, images: Tensor, classes: int) -> int | str | None:
    """Where the logits are; ``_NOWHERE`` if nothing, or more than one thing without a usual name, looks like them."""

    def fits(value: object) -> bool:
        shapes = [(len(images), classes)] + ([(len(images), 1), (len(images),)] if classes == 2 else [])
        return isinstance(value, Tensor) and value.is_floating_point() and tuple(value.shape) in shapes

    if isinstance(output, Tensor):
        return None if fits(output) else _NOWHERE
    if isinstance(output, tuple | list):
        return next((index for index, value in enumerate(output) if fits(value)), _NOWHERE)
    named = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    fitting = [name for name, value in named.items() if isinstance(name, str) and fits(value)]
    usual = [name for name in _USUAL if name in fitting] or (fitting if len(fitting) == 1 else [])
    return usual[0] if usual else _NOWHERE


def _at(output: Any, place: int | str | None) -> Any:
    if place is None:
        return output
    if isinstance(place, str) and not isinstance(output, Mapping):
        return getattr(output, place)
    return output[place]


def _always(holds: Callable[[Tensor], bool], model: nn.Module, values: Callable[[float], Tensor]) -> bool:
    """Whether something is true of the outputs whatever the weights and the images."""
    if not holds(values(1)):
        return False
    random = generator(0, "weights")
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    own = [weight.clone() for weight in weights]
    held = 0
    for _ in range(_DRAWS):
        for weight, before in zip(weights, own, strict=True):
            spread = 0.1 + 2 * float(before.std(correction=0))
            weight.copy_(before + spread * torch.randn(before.shape, generator=random))
        outputs = [values(scale) for scale in (1, -1, 1000)]
        for weight, before in zip(weights, own, strict=True):
            weight.copy_(before)
        finite = [each for each in outputs if bool(each.isfinite().all())]
        if not all(holds(each) for each in finite):
            return False
        held += len(finite) > 0
    return held > _DRAWS // 2


def _in_range(outputs: Tensor) -> bool:
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def _sums_to_one(outputs: Tensor) -> bool:
    return _in_range(outputs) and bool(((outputs.sum(1) - 1).abs() < _SUM).all())
