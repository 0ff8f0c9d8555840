"""Settings and random generators that a whole process shares, and that a user's code may change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

GRADIENTS = "whether gradients are computed (torch.set_grad_enabled)"

_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    GRADIENTS: (torch.is_grad_enabled, torch.set_grad_enabled),
    "the default dtype (torch.set_default_dtype)": (torch.get_default_dtype, torch.set_default_dtype),
    "the default device (torch.set_default_device)": (
        lambda: str(torch.get_default_device()),
        lambda device: torch.set_default_device(None if device == "cpu" else device),
    ),
    "the number of threads (torch.set_num_threads)": (torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms (torch.use_deterministic_algorithms)": (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda modes: torch.use_deterministic_algorithms(modes[0], warn_only=modes[1]),
    ),
    "anomaly detection (torch.autograd.set_detect_anomaly)": (
        torch.is_anomaly_enabled,
        torch.autograd.set_detect_anomaly,
    ),
}
_GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[int], Any]]] = {
    "torch's": (torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed),
    "NumPy's": (np.random.get_state, np.random.set_state, np.random.seed),
    "Python's": (random.getstate, random.setstate, random.seed),
}


@contextmanager
def settings_kept() -> Iterator[Callable[[], list[str]]]:
    """At the end, torch's settings are as before; yields a function that names those that differ by now."""
    before = {name: read() for name, (read, _) in _SETTINGS.items()}

    def changed() -> list[str]:
        return [name for name, (read, _) in _SETTINGS.items() if read() != before[name]]

    try:
        yield changed
    finally:
        for name in changed():
            _SETTINGS[name][1](before[name])


@contextmanager
def generators_kept(seed: int | None = None) -> Iterator[Callable[[], dict[str, str]]]:
    """At the end, the random generators of torch (on the CPU), NumPy and Python are as before.

    Args:
        seed: what they start with; None: as they are.

    Yields:
        A function that returns each generator's state by now, to compare.
    """
    before = {name: read() for name, (read, _, _) in _GENERATORS.items()}
    try:
        if seed is not None:
            for _, _, start in _GENERATORS.values():
                start(seed)
        yield lambda: {name: repr_of(read()) for name, (read, _, _) in _GENERATORS.items()}
    finally:
        for name, (_, write, _) in _GENERATORS.items():
            write(before[name])


def repr_of(state: Any) -> str:
    """A generator's state in full, as text."""
    if isinstance(state, torch.Tensor):
        return str(state.tolist())
    return str([each.tolist() if isinstance(each, np.ndarray) else each for each in state])
