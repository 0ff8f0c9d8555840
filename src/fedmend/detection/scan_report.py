"""The record of a scan; to JSON and back without loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from fedmend.detection.agreement import Agreement
from fedmend.detection.base import Finding, Verdict
from fedmend.detection.choosing import LeftOut
from fedmend.detection.json_types import STRICT, JsonTensor, from_json_text, to_json_text
from fedmend.detection.provenance import Provenance
from fedmend.detection.tensors_beside import FILE, with_tensors, without_tensors
from fedmend.errors import DataError
from fedmend.files import Content, write_together

_REPORT = "scan.json"


@dataclass(frozen=True, eq=False)
class Examples:
    """A few of the scanned images with both models' predictions, before and after a recovered trigger is stamped.

    Attributes:
        detector: the finding's ``detector``.
        target: the trigger's target class.
        number: which of the finding's targets it is, from 0.
        images: unstamped, uint8 (K, C, H, W).
        labels: true classes, int64 (K,), like the predictions below; None for a scan without labels.
        suspect_clean, suspect_stamped: the suspect's predictions.
        reference_stamped: the reference's; None for a scan without a reference.
    """

    __pydantic_config__ = STRICT

    detector: str
    target: int
    images: JsonTensor
    labels: JsonTensor | None
    suspect_clean: JsonTensor
    suspect_stamped: JsonTensor
    reference_stamped: JsonTensor | None
    number: int = 0


@dataclass(frozen=True, eq=False)
class ScanReport:
    """The result of a scan with its evidence.

    Attributes:
        verdict: the findings' verdicts combined (see ``decision.combine``).
        reason: the verdict in a sentence or two, for a person.
        findings: one per detector, in the order given.
        suspect_accuracy, reference_accuracy: fractions in [0, 1] on the unstamped scan images; None without labels,
            or without a reference.
        num_images: number of images in the scan.
        class_names: one per class; numbers if none were given.
        seed, device, versions: needed to repeat the scan, along with each finding's settings.
        seconds: duration of the scan.
        examples: for each finding, one for each of its first few targets with a trigger.
        warnings: reasons not to trust a verdict on this case. A finding has its own warnings.
        date: when the scan began, UTC, ISO 8601; empty if unknown.
        provenance: the files that it was made of; None for a scan in Python, which knows none.
        scope: of a scan without a reference, what it can tell and what it can't, in words; else empty.
        agreement: several methods side by side; None for a single one.
        left_out: methods that were asked for together with all others and need what the case lacks.
        schema: of the JSON.
    """

    __pydantic_config__ = STRICT

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    suspect_accuracy: float | None
    reference_accuracy: float | None
    num_images: int
    class_names: tuple[str, ...]
    seed: int
    device: str
    versions: dict[str, str]
    seconds: float
    examples: tuple[Examples, ...] = ()
    warnings: tuple[str, ...] = ()
    date: str = ""
    provenance: Provenance | None = None
    scope: str = ""
    agreement: Agreement | None = None
    left_out: tuple[LeftOut, ...] = ()
    schema: Literal["fedmend-scan/1"] = "fedmend-scan/1"

    def to_json(self) -> str:
        """The whole report as JSON; tensors as little-endian base64, so that nothing is lost."""
        return to_json_text(_ADAPTER, self)

    @staticmethod
    def from_json(text: str | bytes) -> ScanReport:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: the text is not such a report.
        """
        return from_json_text(_ADAPTER, text, "scan report")

    def save(self, folder: Path | str, *, overwrite: bool = False) -> None:
        """Write ``scan.json`` and, for its tensors, ``scan.safetensors``.

        Args:
            folder: made if needed.
            overwrite: whether a report that is there is given up; else it is moved to ``earlier-1`` there, or to the
                next free number.

        Raises:
            OutputError: they can't be written.
        """
        text, tensors = without_tensors(self.to_json())
        beside: dict[str, Content] = {} if tensors is None else {FILE: partial(_write_bytes, tensors)}
        files, gone = {_REPORT: text + "\n", **beside}, () if beside else (FILE,)
        write_together(Path(folder), files, gone, reports=() if overwrite else (_REPORT,))

    @staticmethod
    def load(path: Path | str) -> ScanReport:
        """Read what :meth:`save` wrote.

        Args:
            path: the folder, or its ``scan.json``.

        Raises:
            DataError: there is no such report, or it is damaged.
        """
        path = Path(path)
        path = path / _REPORT if path.is_dir() else path
        try:
            text = path.read_bytes()
        except OSError as error:
            raise DataError(f"can't read {path}: {error.strerror}; expected a scan's report") from error
        return ScanReport.from_json(with_tensors(text, path.parent))


def json_schema() -> dict[str, Any]:
    """The JSON schema of ``scan.json``, which ``scan.schema.json`` beside this module holds."""
    schema = _ADAPTER.json_schema()
    schema["properties"]["tensors"] = {
        "type": "object",
        "description": "the safetensors file beside the report, if it has tensors",
        "properties": {"file": {"const": FILE}, "sha256": {"type": "string"}},
        "required": ["file", "sha256"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _write_bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


_ADAPTER = TypeAdapter(ScanReport)
