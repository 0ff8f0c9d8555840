"""Records what a command's case is made of (see :mod:`fedmend.detection.provenance`)."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from torch import Tensor

from fedmend.cli.data_options import DataChoice
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.result_command import COMMAND
from fedmend.data import ImageSet, LazyImages
from fedmend.detection.provenance import ArchitectureRecord, DataRecord, FileRecord
from fedmend.errors import CheckpointError
from fedmend.models import ARCHITECTURES


def words_of_command() -> tuple[str, ...]:
    """The words of the command line that is being run, after ``fedmend``; empty outside of one."""
    context = click.get_current_context(silent=True)
    words: tuple[str, ...] = () if context is None else context.meta.get(COMMAND, ())
    return words


def file_record(path: Path) -> FileRecord:
    """The record of a model file.

    Raises:
        CheckpointError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return FileRecord(str(path), hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}; check the name") from error


def architecture_record(choice: ModelChoice) -> ArchitectureRecord:
    """The record of an architecture that has been built."""
    arguments = _as_in_json(asdict(choice))
    name = str(arguments.pop("architecture"))
    if ":" in name:
        module = name.partition(":")[0]
    else:
        factory = ARCHITECTURES.get(name.replace("_", "-").lower())
        module = "" if factory is None else factory.__module__
    return ArchitectureRecord(name, arguments, module, _source_sha256(module))


def data_record(choice: DataChoice, images: LazyImages, indices: Tensor, chosen: ImageSet) -> DataRecord:
    """The record of a source and of the images chosen from it.

    Args:
        choice: what was said about it.
        images: all of them.
        indices: int64 (N,), of the chosen ones.
        chosen: these.
    """
    arguments = _as_in_json(asdict(choice))
    for recorded in ("source", "split", "count"):
        del arguments[recorded]
    source = Path(str(choice.source))
    return DataRecord(
        source=str(choice.source),
        split=choice.split,
        arguments=arguments,
        file=file_record(source) if source.is_file() else None,
        images=len(images),
        listing_sha256=_sha256(
            "\n".join(images.class_names).encode(errors="surrogatepass"), _bytes(images.labels)
        ),
        chosen=tuple(indices.tolist()),
        chosen_sha256=_sha256(_bytes(chosen.images), _bytes(chosen.labels)),
    )


def _as_in_json(values: dict[str, Any]) -> dict[str, Any]:
    """As they come back from a report, with lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _source_sha256(module: str) -> str:
    found = sys.modules.get(module)
    try:
        source = None if found is None else inspect.getsourcefile(found)
        return "" if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()
    except (OSError, TypeError):  # a module without a source file
        return ""


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _bytes(values: Tensor) -> bytes:
    return values.cpu().contiguous().numpy().tobytes()
