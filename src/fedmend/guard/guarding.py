"""A guard in a simulated federation, so that a policy can be tried before it is relied on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fedmend.data import ImageSet, load_images
from fedmend.errors import ConfigError, DataError
from fedmend.federation import Review, Reviewed, RunFolder, SimulationConfig, initial_model
from fedmend.federation.simulator import laid_out
from fedmend.guard.history import History
from fedmend.guard.policy import GuardPolicy
from fedmend.guard.reviewing import Guard
from fedmend.guard.weights import model_with
from fedmend.progress import Progress, silent
from fedmend.seeds import derive_seed


def guarded(
    config: SimulationConfig,
    out: Path | str,
    images: ImageSet | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Review:
    """The review of a simulation whose settings have a table ``[guard]``.

    The guard sees what a server would: each round's candidate, and clean test images as its own. It opens nothing but
    its history, the folder ``guard`` of the run.

    Args:
        config: with a table ``[guard]``.
        out: the run's folder.
        images: the test images, if already in memory; else ``config.data.source`` is loaded.
        device: where to scan.
        progress: see ``fedmend.progress``.

    Raises:
        ConfigError: there is no table ``[guard]``, or a setting in it is refused.
        DataError: in a review: the run has rounds without a history.
    """
    if config.guard is None:
        raise ConfigError("expected settings with a table [guard]; there is none")
    policy, history = GuardPolicy.from_table(config.guard), RunFolder(out).guard

    def made() -> Guard:
        own = images or load_images(config.data.source, "test")
        return Guard(
            policy,
            model=laid_out(initial_model(config, own), own, device),
            images=own.images,
            labels=own.labels,
            history=history,
            seed=derive_seed(config.seed, "guard"),
            class_names=own.class_names,
            progress=progress,
        )

    return _Reviews(made, history, config.model.start_round + 1)


class _Reviews:
    """Makes the guard in the first review, when the run's folder is there."""

    def __init__(self, made: Callable[[], Guard], history: Path, first: int) -> None:
        self._made, self._history, self._first = made, history, first
        self._guard: Guard | None = None

    def has_stopped(self, round_number: int) -> bool:
        """See :class:`fedmend.federation.reviews.RemembersStops`."""
        lines = History(self._history).lines()
        return any(line.stop for line in lines if line.round is not None and line.round <= round_number)

    def __call__(self, candidate: nn.Module, round_number: int) -> Reviewed:
        if self._guard is None:
            if round_number > self._first and not self._history.exists():
                raise DataError(
                    f"the guard's history {self._history} is missing, though the run has rounds; restore it, or start "
                    "the run in another folder"
                )
            self._guard = self._made()
        decision = self._guard.review(candidate, round_number)
        model: nn.Module | None = candidate
        if decision.action not in ("accept", "hold"):
            weights = decision.continue_from
            model = None if weights is None else model_with(weights, candidate)
        return Reviewed(model, decision.action, decision.stop)
