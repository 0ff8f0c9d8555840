"""What a case must be like before any detector sees it, and stay like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedmend.detection.base import Case
from fedmend.detection.decision import MIN_IMAGES
from fedmend.detection.model_checks import check_predictions
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.inference import device_of, frozen


def check_case(case: Case) -> None:
    """Check images, labels and models before anything runs.

    Raises:
        DataError: the images or labels can't be used.
        ConfigError: the expected accuracy isn't in (0, 1], or there are no labels to measure it by.
        ModelError: the models are on two devices or of two precisions.
    """
    _check_expected_accuracy(case)
    if case.images is not None:
        _check_images(case.images)
    if case.labels is not None:
        if case.images is None:
            raise DataError("labels were given without images; give both or neither")
        _check_labels(case.labels, len(case.images))
    models = [case.suspect] if case.reference is None else [case.suspect, case.reference]
    _check_models(models)


def check_logits(case: Case) -> None:
    """Check what the models return on the clean images.

    Raises:
        ModelError: something other than finite logits, the same each time, or logits of different classes (see
            :func:`check_predictions`).
        DataError: labels or class names that don't match the classes, or images of a single class.
    """
    check_predictions(case)
    named = {"suspect": case.suspect_logits}
    if case.reference is not None:
        named["reference"] = case.reference_logits
    shapes = [tuple(logits.shape) for logits in named.values()]
    if len(shapes[0]) != 2 or len(set(shapes)) > 1:
        raise ModelError(
            f"{' and '.join(named)} must return logits (N, classes) of the same classes; got "
            f"{' and '.join(str(shape) for shape in shapes)}"
        )
    for name, logits in named.items():
        if not bool(logits.isfinite().all()):
            raise ModelError(
                f"the {name} returns NaN or infinite logits on clean images; is the file damaged?"
            )
    check_classes(shapes[0][1], case.labels, case.class_names)
    if case.labels is None and len(case.truth.unique()) < 2:
        raise DataError(
            "a scan needs images of two classes or more, and without labels the classes are predictions: the "
            "same for all images here"
        )


def check_classes(classes: int, labels: Tensor | None, class_names: Sequence[str] | None) -> None:
    """Check labels and class names against the number of logits.

    Raises:
        DataError: labels outside of [0, classes), another number of names, or all images of a single class.
    """
    if labels is not None and not bool(((labels >= 0) & (labels < classes)).all()):
        raise DataError(
            f"labels must be in [0, {classes}), the models' classes; got {int(labels.min())} to {int(labels.max())}: "
            "number them from 0, in the order of the logits"
        )
    if class_names is not None and len(class_names) != classes:
        raise DataError(
            f"the models have {classes} classes, but {len(class_names)} class names were given; give one per class, "
            "or none"
        )
    if labels is not None and len(labels.unique()) < 2:
        raise DataError(
            "a scan needs images of two classes or more; all given ones are of one class: add images of others"
        )


@contextmanager
def unchanged(case: Case, who: str) -> Iterator[None]:
    """Within, ``who`` is shown the case; at the end its models and tensors are as before.

    Raises:
        ConfigError: a weight, a buffer or one of the case's tensors has changed; its values are put back.
    """
    models = [case.suspect] if case.reference is None else [case.suspect, case.reference]
    shown = {name: value for name, value in vars(case).items() if isinstance(value, Tensor)}
    shown |= _tensors_of(models)
    before = {name: value.detach().clone() for name, value in shown.items()}
    changed: list[str] = []
    try:
        with frozen(*models):
            yield
    finally:
        for name, value in shown.items():
            if not _same(value, before[name]):
                changed.append(name)
                value.data = before[name]
    now = _tensors_of(models)
    changed += [name for name in now if now[name] is not shown.get(name)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ConfigError(
            f"{who} changed what it was shown ({changed[0]}{more}); work on a copy: copy.deepcopy(case.suspect)"
        )


def _tensors_of(models: list[nn.Module]) -> dict[str, Tensor]:
    """The weights and buffers of suspect and reference by names for messages."""
    return {
        f"the {role}'s {name}": value
        for role, model in zip(("suspect", "reference"), models, strict=False)
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }


def _same(value: Tensor, before: Tensor) -> bool:
    """Equal, and NaN where the other is."""
    if (value.shape, value.dtype, value.device) != (before.shape, before.dtype, before.device):
        return False
    return bool(((value == before) | ((value != value) & (before != before))).all())


def _check_expected_accuracy(case: Case) -> None:
    expected = case.expected_accuracy
    if expected is None:
        return
    if not 0 < expected <= 1:
        raise ConfigError(f"the expected accuracy must be a fraction in (0, 1], such as 0.94; got {expected}")
    if case.labels is None:
        raise ConfigError("an expected accuracy needs labels to measure it by; give them, or leave it out")


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or len(images) < MIN_IMAGES:
        raise DataError(
            f"a scan needs images of shape (N, C, H, W) with N at least {MIN_IMAGES}; got {tuple(images.shape)}"
        )
    floats = images.is_floating_point() and bool(((images >= 0) & (images <= 1)).all())
    if images.dtype != torch.uint8 and not floats:
        raise DataError("images must be uint8, or floats in [0, 1] without NaN; divide 8-bit values by 255")


def _check_labels(labels: Tensor, count: int) -> None:
    if labels.shape != (count,) or labels.dtype != torch.int64:
        raise DataError(
            f"a scan needs one label per image, int64 (N,); got {count} images and labels {tuple(labels.shape)} of "
            f"{labels.dtype}"
        )


def _check_models(models: list[nn.Module]) -> None:
    devices = [device_of(model) for model in models]
    if len(set(devices)) > 1:
        raise ModelError(
            f"suspect and reference must be on one device; they are on {devices[0]} and {devices[1]}"
        )
    precisions = [{value.dtype for value in model.parameters()} for model in models]
    for wrong in (precisions[0] ^ precisions[-1]) | (precisions[0] - {torch.float32, torch.float64}):
        raise ModelError(
            f"suspect and reference must be of one precision, float32 or float64; one of them has {wrong}: "
            "convert it with model.float()"
        )
