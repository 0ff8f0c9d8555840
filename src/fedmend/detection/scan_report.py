"""What a scan found: one frozen record, to JSON and back without loss."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, PlainSerializer, PlainValidator, TypeAdapter, ValidationError
from torch import Tensor

from fedmend.errors import DataError
from fedmend.triggers import Patch

Verdict = Literal["clean", "backdoored", "inconclusive"]

_DTYPES = ("float32", "float16", "float64", "uint8", "int64")


def _encode_tensor(value: Tensor) -> dict[str, Any]:
    array = value.detach().cpu().contiguous().numpy()
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode(),
    }


def _decode_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, dict) or value.get("dtype") not in _DTYPES:
        raise ValueError(f"expected a tensor as dtype ({', '.join(_DTYPES)}), shape and base64")
    raw = base64.b64decode(value["base64"], validate=True)
    array = np.frombuffer(raw, dtype=np.dtype(value["dtype"]).newbyteorder("<"))
    return torch.from_numpy(array.reshape(value["shape"]).astype(value["dtype"]))


def _decode_trigger(value: Any) -> Patch:
    if isinstance(value, Patch):
        return value
    return Patch(_decode_tensor(value["mask"]), _decode_tensor(value["pattern"]))


def _encode_trigger(value: Patch) -> dict[str, Any]:
    return {"mask": _encode_tensor(value.mask), "pattern": _encode_tensor(value.pattern)}


JsonTensor = Annotated[Tensor, PlainValidator(_decode_tensor), PlainSerializer(_encode_tensor)]
JsonTrigger = Annotated[Patch, PlainValidator(_decode_trigger), PlainSerializer(_encode_trigger)]

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, ser_json_inf_nan="constants")


@dataclass(frozen=True)
class Thresholds:
    """Limits of the two decision rules; every share is in [0, 1].

    ``mse`` and ``reasr`` are the paper's (4.3: 10 and 80 %). ``reference_agreement`` belongs to fedmend's own rule:
    at or above it, the reference is fooled by the recovered patch too, so the patch is no backdoor. So does
    ``suspicion``: a patch that works on this share of the images in the suspect alone, but on too few for a backdoor,
    makes the verdict inconclusive. So does a patch that works but covers more than ``mask_share`` of the image, and one
    beside which a patch of at most twice its size works on ``suspicion`` of the images in the reference alone.
    """

    __pydantic_config__ = _STRICT

    mse: float = 10.0
    reasr: float = 0.80
    reference_agreement: float = 0.50
    suspicion: float = 0.50
    mask_share: float = 0.125


@dataclass(frozen=True, eq=False)
class Examples:
    """A few of the scanned images with what both models answer, for a report to show.

    Attributes:
        images: uint8, (K, C, H, W), unstamped.
        labels: int64, (K,), the true classes; so are the predictions below:
            the suspect's on the clean and on the stamped images, the reference's on the stamped ones.
    """

    __pydantic_config__ = _STRICT

    images: JsonTensor
    labels: JsonTensor
    suspect_clean: JsonTensor
    suspect_stamped: JsonTensor
    reference_stamped: JsonTensor


@dataclass(frozen=True, eq=False)
class ScanReport:
    """The result of a scan, with its evidence. Shares and accuracies are in [0, 1], times in seconds.

    Attributes:
        verdict: what fedmend concludes (its own rule, see ``scan.decide``).
        reason: the verdict in a sentence or two, for a person.
        paper_verdict: what the contrastive paper's rule alone says (2.5: MSE and REASR above their thresholds).
        target_class: the class that most stamped images are sent to, among images of other classes.
        reasr: share of stamped images of other classes that the suspect sends to ``target_class``.
        mse: squared L2 norm of the change of the suspect's features under the trigger, averaged over the images.
        reference_agreement: share of the same stamped images that the reference sends to ``target_class``.
        suspect_accuracy, reference_accuracy: on the unstamped scan images.
        control_reasr: REASR in the reference alone of a patch of at most twice the recovered one's size, from a shorter
            search with the roles swapped; None where no backdoor was in question.
        trigger: the recovered trigger.
        variants: the patches to which the best of the search's random starts led, before one was refined, and which
            work on half of the images or more: the same backdoor answers to many, and a repair unlearns them all.
        loss_curve: the search's loss, a value a step.
        stop_reason: why the search ended, in words.
        warnings: why the scan may not be trustworthy; empty if nothing was noticed.
        method, settings, seed, versions, device: what is needed to run it again; ``settings["half"]`` says whether the
            suspect was searched in half precision, which depends on the CPU, too.
    """

    __pydantic_config__ = _STRICT

    verdict: Verdict
    reason: str
    paper_verdict: Verdict
    target_class: int
    reasr: float
    mse: float
    reference_agreement: float
    suspect_accuracy: float
    reference_accuracy: float
    thresholds: Thresholds
    trigger: JsonTrigger
    loss_curve: tuple[float, ...]
    steps: int
    stop_reason: str
    seconds: float
    num_images: int
    class_names: tuple[str, ...]
    method: str
    settings: dict[str, Any]
    seed: int
    device: str
    versions: dict[str, str]
    examples: Examples
    control_reasr: float | None = None
    variants: tuple[JsonTrigger, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The whole report as JSON text; tensors as little-endian base64, so nothing is lost."""
        # pydantic's own JSON writes null for an infinite or NaN setting; json writes Infinity and NaN.
        return json.dumps(_ADAPTER.dump_python(self), indent=2, ensure_ascii=False)

    @staticmethod
    def from_json(text: str | bytes) -> ScanReport:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: the text is not such a report.
        """
        try:
            return _ADAPTER.validate_json(text)
        except (ValidationError, KeyError, TypeError) as error:
            raise DataError(f"not a fedmend scan report: {error}") from error


_ADAPTER = TypeAdapter(ScanReport)
