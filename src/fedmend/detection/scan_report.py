"""The record of a scan; to JSON and back without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from fedmend.detection.base import Finding, Verdict
from fedmend.detection.json_types import STRICT, JsonTensor, from_json_text, to_json_text


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
        schema_version: of the JSON.
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
    schema_version: Literal[1] = 1

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


_ADAPTER = TypeAdapter(ScanReport)
