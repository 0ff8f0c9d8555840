"""TEMPORARY: the merge replaces this file."""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import dataclass, field

from torch import Tensor

from fedmend.detection.base import Finding, Verdict
from fedmend.errors import DataError


@dataclass(frozen=True)
class Thresholds:
    """Only so that the old modules can be imported."""


@dataclass(frozen=True, eq=False)
class Examples:
    """A few of the scanned images with both models' predictions."""

    detector: str
    target: int
    images: Tensor
    labels: Tensor | None
    suspect_clean: Tensor
    suspect_stamped: Tensor
    reference_stamped: Tensor | None


@dataclass(frozen=True, eq=False)
class ScanReport:
    """The result of a scan."""

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    suspect_accuracy: float | None
    reference_accuracy: float | None
    num_images: int
    class_names: tuple[str, ...]
    seed: int
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    examples: tuple[Examples, ...] = ()
    warnings: tuple[str, ...] = ()
    schema_version: int = 1

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps({"temporary": base64.b64encode(pickle.dumps(self)).decode()})

    @staticmethod
    def from_json(text: str | bytes) -> ScanReport:
        """Undo :meth:`to_json`."""
        try:
            return pickle.loads(base64.b64decode(json.loads(text)["temporary"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not a fedmend scan report: {error}") from error
