"""What a scan was made of: enough to run it again, and to notice that something has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fedmend.detection.json_types import STRICT


@dataclass(frozen=True)
class FileRecord:
    """A file.

    Attributes:
        name: as it was given.
        sha256: of its bytes, in hexadecimal.
        size: in bytes.
    """

    __pydantic_config__ = STRICT

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class ArchitectureRecord:
    """A network.

    Attributes:
        name: as it was given.
        arguments: what else was said about it, by name.
        module: the Python module of its factory.
        sha256: of the module's source file, in hexadecimal; empty if it has none.
    """

    __pydantic_config__ = STRICT

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    module: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class DataRecord:
    """A source of images.

    Attributes:
        source, split: as they were given.
        arguments: what else was said about it, by name.
        file: the source, if it is a file.
        images: number of images.
        listing_sha256: of the class names and of all labels, in order.
        chosen: indices of the scanned images.
        chosen_sha256: of their pixels and labels.
    """

    __pydantic_config__ = STRICT

    source: str
    split: str
    arguments: dict[str, Any]
    file: FileRecord | None
    images: int
    listing_sha256: str
    chosen: tuple[int, ...]
    chosen_sha256: str


@dataclass(frozen=True)
class Provenance:
    """What a scan was made of.

    Attributes:
        command: the words of the command line, after ``fedmend``.
        suspect, reference: the model files.
        architecture: of both.
        data: the images.
    """

    __pydantic_config__ = STRICT

    command: tuple[str, ...]
    suspect: FileRecord
    reference: FileRecord | None
    architecture: ArchitectureRecord
    data: DataRecord

    def differences(self, other: Provenance) -> Iterator[str]:
        """What isn't the same, in words; names of files don't count."""
        digests = (_digests(self), _digests(other))
        for name, mine in digests[0].items():
            if mine != digests[1][name]:
                yield name


def _digests(of: Provenance) -> dict[str, Any]:
    files = {"the suspect": of.suspect, "the reference": of.reference, "the data": of.data.file}
    return {name: file and file.sha256 for name, file in files.items()} | {
        "the architecture": (of.architecture.name, of.architecture.arguments),
        "the architecture's source file": of.architecture.sha256,
        "the data's labels or class names": of.data.listing_sha256,
        "the scanned images": of.data.chosen_sha256,
    }
