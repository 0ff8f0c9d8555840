"""A model's weights as the guard receives, compares and names them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.terminal_text import printable
from fedmend.untrusted import plain_tensor

State: TypeAlias = Mapping[str, Tensor]
"""A whole ``state_dict`` on the CPU: parameters and buffers, BatchNorm's among them."""

_SHOWN = 3


@dataclass(frozen=True)
class Fault:
    """Why weights can't be a model of this federation.

    Attributes:
        verdict: "wrong shape": names, shapes or types differ from the model's; "not finite": a value is NaN or
            infinite, or a variance negative.
        reason: in a sentence.
    """

    verdict: Literal["wrong shape", "not finite"]
    reason: str


def require_tensors(template: nn.Module) -> None:
    """Refuse a federation's model whose ``state_dict`` holds something that a guard can't compare.

    Raises:
        ModelError: an entry is no tensor.
    """
    for name, value in template.state_dict().items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the guard's model can't be used: its state_dict must hold tensors alone; {printable(name)} is a "
                f"{type(value).__name__}. Leave get_extra_state() out of the module"
            )


def received(candidate: nn.Module | State, template: nn.Module) -> dict[str, Tensor] | Fault:
    """A copy of a candidate's weights on the CPU, as the federation's model loads them, or what is wrong with them.

    Args:
        candidate: a model or its ``state_dict``; may hold anything.
        template: the federation's model. Names, shapes and types must be exactly its own.
    """
    given = candidate.state_dict() if isinstance(candidate, nn.Module) else candidate
    expected = template.state_dict()
    if not isinstance(given, Mapping):
        return Fault("wrong shape", f"Expected a state_dict of tensors; got a {type(given).__name__}.")
    missing, extra = (
        [name for name in one if name not in other] for one, other in ((expected, given), (given, expected))
    )
    if missing or extra:
        return Fault("wrong shape", f"The candidate {_names_in_words(missing, extra)}.")
    state = {}
    for name, own in expected.items():
        sent = given[name].detach() if isinstance(given[name], nn.Parameter) else given[name]
        value = plain_tensor(sent, (own.dtype,), tuple(own.shape))
        if value is None:
            return Fault(
                "wrong shape",
                f"Expected {printable(name)} as {_in_words(own)}; got {_in_words(sent)}.",
            )
        state[name] = value
    return not_finite(state) or _as_loaded(state, template)


def not_finite(state: State) -> Fault | None:
    """The fault of weights that are NaN, infinite or a negative variance, if there is one."""
    broken = [
        name
        for name, value in state.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if broken:
        return Fault("not finite", f"The candidate holds NaN or infinite values in {_listed(broken)}.")
    negative = [
        name for name, value in state.items() if name.endswith("running_var") and bool((value < 0).any())
    ]
    if negative:
        return Fault("not finite", f"The candidate holds negative variances in {_listed(negative)}.")
    return None


def model_with(state: State, template: nn.Module) -> nn.Module:
    """A copy of the federation's model with other weights, in eval mode."""
    model = deepcopy(template)
    model.load_state_dict(dict(state))
    return model.eval()


def _as_loaded(state: dict[str, Tensor], template: nn.Module) -> dict[str, Tensor]:
    """The weights as the model holds them: layers may share a tensor, of which a candidate can give two versions."""
    loaded = model_with(state, template).state_dict()
    return {name: loaded[name].detach().to("cpu", copy=True) for name in state}


def digest(state: State) -> str:
    """SHA-256 of weights, in hexadecimal: of names, types, shapes and values, whatever the order of the names."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name}\n{value.dtype}\n{tuple(value.shape)}\n".encode(errors="surrogatepass"))
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _names_in_words(missing: list[str], extra: list[str]) -> str:
    parts = [f"lacks {_listed(missing)}"] if missing else []
    parts += [f"holds {_listed(extra)}, which the model lacks"] if extra else []
    return " and ".join(parts)


def _listed(names: list[str]) -> str:
    shown = ", ".join(printable(str(name)) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _in_words(value: object) -> str:
    if type(value) is not Tensor:
        return f"a {type(value).__name__}"
    return f"{value.dtype} {tuple(value.shape)}"
