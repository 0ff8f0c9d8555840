"""The files in a run's folder ``attacker/``, which a defender doesn't have.

Only this module of the package knows their names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from torch import Tensor

from fedmend.checkpoints import read_patch, read_state
from fedmend.errors import CheckpointError, DataError
from fedmend.pages.contents import (
    AttackedRound,
    AttackEvaluation,
    PlantedAttack,
    PruneEvaluation,
    check_prune_evaluation,
)
from fedmend.pages.result_files import NOTHING, Pending, read_file, read_lines
from fedmend.repairs.repair_report import PruningDetails

_T = TypeVar("_T")

FOLDER = "attacker"

_ATTACKS = TypeAdapter(list[dict[str, Any]])
_ROUND = TypeAdapter(AttackedRound)
_EVALUATION = TypeAdapter(AttackEvaluation)
_PRUNE_EVALUATION = TypeAdapter(PruneEvaluation)


def read_attacks(run: Path) -> tuple[PlantedAttack, ...]:
    """The attacks in ``attacks.json``, each with its planted patch or an example.

    ``trigger-0.safetensors`` holds the first attack's patch. For a trigger of another kind, ``example-0.safetensors``
    may hold a ``clean`` and a ``stamped`` image, both (C, H, W).

    Raises:
        DataError: the list is damaged. CheckpointError: a patch or an example is.
    """
    folder = run / FOLDER
    tables = read_file(folder / "attacks.json", _ATTACKS.validate_json) or []
    return tuple(
        PlantedAttack(
            table,
            patch=_if_there(folder / f"trigger-{index}.safetensors", read_patch),
            example=_if_there(folder / f"example-{index}.safetensors", _read_example),
        )
        for index, table in enumerate(tables)
    )


def read_attacked_rounds(run: Path) -> tuple[AttackedRound, ...]:
    """The lines of ``rounds.jsonl``, by round; a round's last line wins.

    Raises:
        DataError: the file can't be read.
    """
    found = {record.round: record for record in read_lines(run / FOLDER / "rounds.jsonl", _ROUND)}
    return tuple(found[number] for number in sorted(found))


def read_evaluation(run: Path, pending: Pending = NOTHING) -> AttackEvaluation | None:
    """What :func:`evaluation_file` made, or None.

    Raises:
        DataError: the file is damaged.
    """
    return read_file(run / FOLDER / "evaluation.json", _EVALUATION.validate_json, pending)


def read_prune_evaluation(
    run: Path, details: PruningDetails, pending: Pending = NOTHING
) -> PruneEvaluation | None:
    """What :func:`prune_evaluation_file` made for this pruning, or None.

    Raises:
        DataError: the file is damaged, or belongs to another pruning.
    """
    path = run / FOLDER / "prune_evaluation.json"
    evaluation = read_file(path, _PRUNE_EVALUATION.validate_json, pending)
    if evaluation is not None:
        try:
            check_prune_evaluation(evaluation, details)
        except DataError as error:
            raise DataError(
                f"{path} doesn't match this run's repair.json: {error}; write it again, or remove it"
            ) from error
    return evaluation


def evaluation_file(evaluation: AttackEvaluation | None) -> dict[str, str | None]:
    """The attacks' success before and after a repair, for the page, as a text by the file's name in the run.

    None stands for no file, not even an earlier one.
    """
    text = None if evaluation is None else _EVALUATION.dump_json(evaluation, indent=2).decode() + "\n"
    return {f"{FOLDER}/evaluation.json": text}


def prune_evaluation_file(evaluation: PruneEvaluation | None) -> dict[str, str | None]:
    """The attack's success at each step of a pruning, likewise; None stands for no file, not even an earlier one."""
    text = None if evaluation is None else _PRUNE_EVALUATION.dump_json(evaluation, indent=2).decode() + "\n"
    return {f"{FOLDER}/prune_evaluation.json": text}


def _read_example(path: Path) -> tuple[Tensor, Tensor]:
    state = read_state(path)
    if set(state) != {"clean", "stamped"} or any(image.ndim != 3 for image in state.values()):
        raise CheckpointError(
            f"{path} holds no example: expected a clean and a stamped image, both (C, H, W)"
        )
    return state["clean"], state["stamped"]


def _if_there(path: Path, read: Callable[[Path], _T]) -> _T | None:
    return read(path) if path.exists() else None
