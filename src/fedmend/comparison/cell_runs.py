"""Runs one federation of a comparison, in this process, with one thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from fedmend.comparison.cell_results import (
    CellResult,
    read_result,
    released_accuracy,
    released_asr,
    rounds_of,
    save_result,
    seconds_of,
)
from fedmend.comparison.comparison_cells import Cell
from fedmend.comparison.final_votes import vote
from fedmend.data import ImageSet, load_images
from fedmend.errors import DivergedError, FedmendError, OutputError
from fedmend.federation import Execution, RunFolder, SimulationConfig, simulate
from fedmend.federation.reviews import release_all
from fedmend.global_settings import settings_kept
from fedmend.guard import guarded

RESULT = "cell.json"


@dataclass(frozen=True, eq=False)
class CellImages:
    """The images of one federation.

    Attributes:
        train: divided among the clients.
        test: what accuracy and ASR are measured on.
        own: the server's, for its guard and its votes.
    """

    train: ImageSet
    test: ImageSet
    own: ImageSet


@lru_cache(maxsize=2)
def _loaded(source: str) -> CellImages:
    test = load_images(source, "test")
    return CellImages(load_images(source, "train"), test, test)


def images_of(config: SimulationConfig) -> CellImages:
    """The images of ``[data] source``, as in a simulation: the server's own are the test images."""
    return _loaded(config.data.source)


@dataclass(frozen=True)
class CellSettings:
    """How each cell runs.

    Attributes:
        device: where.
        images: from a simulation's settings to its images; at the top level of a module, so that it can be sent to a
            process.
        keep_checkpoints: keep the checkpoints of all rounds; else only the last one of a complete run.
    """

    device: torch.device | str = "cpu"
    images: Callable[[SimulationConfig], CellImages] = images_of
    keep_checkpoints: bool = False


def run_cell(cell: Cell, folder: Path, settings: CellSettings) -> CellResult:
    """Run a cell, or go on with it, and write its result; one that is there is read.

    Args:
        cell: its settings are those of the run in ``folder``, if there is one.
        folder: a run's folder (see :class:`fedmend.federation.RunFolder`), which gets ``cell.json`` as well.
        settings: how.

    Returns:
        The result. A federation that diverged, or failed on its data or its settings, has one, too.

    Raises:
        OutputError: a file can't be written. DataError: an earlier result was damaged.
    """
    earlier = read_result(folder / RESULT)
    if earlier is not None and earlier.key == cell.key:
        return replace(earlier, folder=folder.name)
    with settings_kept():
        torch.set_num_threads(1)
        try:
            result = _complete(cell, folder, settings)
        except OutputError:
            raise
        except FedmendError as error:
            result = _ended_early(cell, folder, error)
    if result.ended != "failed":
        save_result(result, folder / RESULT)
    return replace(result, folder=folder.name)


def _complete(cell: Cell, folder: Path, settings: CellSettings) -> CellResult:
    config, images = cell.config, settings.images(cell.config)
    review = release_all
    if config.guard is not None:
        review = guarded(config, folder, images.own, settings.device)  # type: ignore[assignment]
    run = simulate(
        config,
        folder,
        resume=True,
        data=(images.train, images.test),
        execution=Execution(settings.device),
        review=review,
    )
    rounds = rounds_of(run)
    accuracy, asr, seconds, repair = (
        released_accuracy(run, rounds),
        released_asr(run, rounds),
        seconds_of(run),
        None,
    )
    if cell.votes is not None:
        voted = vote(run, cell.votes, images.train, images.test, images.own, settings.device)
        accuracy, asr, repair = voted.accuracy, max(voted.asr, default=None), voted.outcome
        seconds += voted.seconds
    if not settings.keep_checkpoints:
        _remove_all_but_the_last(run)
    return CellResult(cell.key, "complete", rounds, accuracy, asr, seconds, repair)


def _ended_early(cell: Cell, folder: Path, error: FedmendError) -> CellResult:
    run, rounds, seconds = RunFolder(folder), (), 0.0
    with suppress(FedmendError):
        rounds, seconds = rounds_of(run), seconds_of(run)  # type: ignore[assignment]
    ended = "diverged" if isinstance(error, DivergedError) else "failed"
    return CellResult(cell.key, ended, rounds, None, None, seconds, error=str(error))  # type: ignore[arg-type]


def _remove_all_but_the_last(run: RunFolder) -> None:
    last = run.last_round()
    for file in run.checkpoint(0).parent.glob("round-*.safetensors"):
        if last is not None and not file.name.startswith(run.checkpoint(last).stem):
            with suppress(OSError):
                file.unlink()
