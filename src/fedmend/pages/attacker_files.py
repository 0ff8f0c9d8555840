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
from fedmend.files import write_text
from fedmend.pages.contents import (
    AttackedRound,
    AttackEvaluation,
    PlantedAttack,
    PruneEvaluation,
    check_prune_evaluation,
)
from fedmend.pages.result_files import read_file, read_lines
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


def read_evaluation(run: Path) -> AttackEvaluation | None:
    """What :func:`write_evaluation` wrote, or None.

    Raises:
        DataError: the file is damaged.
    """
    return read_file(run / FOLDER / "evaluation.json", _EVALUATION.validate_json)


def read_prune_evaluation(run: Path, details: PruningDetails) -> PruneEvaluation | None:
    """What :func:`write_prune_evaluation` wrote for this pruning, or None.

    Raises:
        DataError: the file is damaged, or belongs to another pruning.
    """
    path = run / FOLDER / "prune_evaluation.json"
    evaluation = read_file(path, _PRUNE_EVALUATION.validate_json)
    if evaluation is not None:
        try:
            check_prune_evaluation(evaluation, details)
        except DataError as error:
            raise DataError(
                f"{path} doesn't match this run's repair.json: {error}; write it again, or remove it"
            ) from error
    return evaluation


def write_evaluation(run: Path, evaluation: AttackEvaluation | None) -> None:
    """Write the attacks' success before and after a repair, for the page; None removes an earlier repair's file.

    Raises:
        OutputError: the file can't be written.
    """
    path = run / FOLDER / "evaluation.json"
    if evaluation is None:
        path.unlink(missing_ok=True)
    else:
        _write(path, _EVALUATION.dump_json(evaluation, indent=2))


def write_prune_evaluation(run: Path, evaluation: PruneEvaluation | None) -> None:
    """Write the attack's success at each step of a pruning, for the page; None removes an earlier repair's file.

    Raises:
        OutputError: the file can't be written.
    """
    path = run / FOLDER / "prune_evaluation.json"
    if evaluation is None:
        path.unlink(missing_ok=True)
    else:
        _write(path, _PRUNE_EVALUATION.dump_json(evaluation, indent=2))


def _write(path: Path, text: bytes) -> None:
    write_text(path, text.decode() + "\n")


def _read_example(path: Path) -> tuple[Tensor, Tensor]:
    state = read_state(path)
    if set(state) != {"clean", "stamped"} or any(image.ndim != 3 for image in state.values()):
        raise CheckpointError(
            f"{path} holds no example: expected a clean and a stamped image, both (C, H, W)"
        )
    return state["clean"], state["stamped"]


def _if_there(path: Path, read: Callable[[Path], _T]) -> _T | None:
    return read(path) if path.exists() else None
