"""Loads the models, device and images that the command line names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fedmend.checkpoints import load_checkpoint
from fedmend.cli.data_options import DataChoice
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.recording import architecture_record, data_record, file_record, words_of_command
from fedmend.cli.thread_choice import choose_threads
from fedmend.data import ImageSet, LazyImages, open_images, stratified
from fedmend.detection import Case, ScanReport
from fedmend.detection.decision import MIN_IMAGES
from fedmend.detection.provenance import Provenance
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.inference import pixels_for
from fedmend.model_cost import multiply_adds
from fedmend.models import build_model, normalized, probe
from fedmend.seeds import generator

_PER_CLASS, _MOST, _LEAST_PER_CLASS, _MOST_OF_ALL = 40, 600, 3, 1000
_VALUES, _WORK = 2**26, 4e12
"""Values of all images, a quarter of a GiB as floats, and multiply-adds of their predictions by both models, beyond
which fewer images are drawn."""


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """The input of a scan or a repair.

    Attributes:
        suspect: in eval mode, on the chosen device.
        reference: likewise, or None.
        images: all images of the source; only the chosen ones are decoded yet.
        chosen: the images to scan with.
        provenance: what all of that was made of.
        expected_accuracy: see :class:`~fedmend.detection.Case`.
    """

    suspect: nn.Module
    reference: nn.Module | None
    images: LazyImages
    chosen: ImageSet
    provenance: Provenance
    expected_accuracy: float | None = None

    def to_scan(self) -> Case:
        """The case of a scan, with the chosen images."""
        return Case(
            self.suspect,
            self.reference,
            self.chosen.images,
            self.chosen.labels,
            self.images.class_names,
            self.expected_accuracy,
        )

    def recorded(self, report: ScanReport) -> ScanReport:
        """The report of a scan of :meth:`to_scan`, with its provenance."""
        return replace(report, provenance=self.provenance)

    def repair_images(self, most: int, seed: int) -> ImageSet:
        """Decode at most ``most`` images to repair with, balanced over the classes as far as possible.

        They may include chosen ones.
        """
        count = min(most, len(self.images))
        return self.images.subset(stratified(self.images, count, generator(seed, "repair images")))


def load_case(
    suspect: Path,
    reference: Path | None,
    model: ModelChoice,
    data: DataChoice,
    device: str,
    seed: int,
    expected_accuracy: float | None = None,
) -> LoadedCase:
    """Load the models, open the images, decode those to scan with, and choose the number of threads.

    Args:
        suspect: a model file.
        reference: a model file, or None.
        model: of both files.
        data: the images.
        device: see :func:`choose_device`.
        seed: of the choice of images.
        expected_accuracy: see :class:`~fedmend.detection.Case`.

    Raises:
        ConfigError: the architecture or the source isn't given.
        FedmendError: something can't be loaded.
    """
    if model.architecture is None or data.source is None:
        given = {"--model": model.architecture, "--data": data.source}
        raise ConfigError(
            f"give {' and '.join(name for name, value in given.items() if value is None)} as well"
        )
    images = open_images(data.source, data.split, resize=data.resize, classes=data.classes)
    indices = choose_indices(images, data.count, seed)
    chosen = images.subset(indices)
    where = choose_device(device)
    suspected = load_model(suspect, model, chosen, where)
    cost = multiply_adds(suspected, pixels_for(suspected, chosen.images[0]))
    choose_threads(cost, where)
    if data.count is None:
        fewer = stratified(chosen, _affordable(chosen, cost), generator(seed, "images of a large model"))
        if len(fewer) < len(chosen):
            indices, chosen = indices[fewer], chosen.subset(fewer)
    compared = None if reference is None else load_model(reference, model, chosen, where)
    provenance = Provenance(
        command=words_of_command(),
        suspect=file_record(suspect),
        reference=None if reference is None else file_record(reference),
        architecture=architecture_record(model),
        data=data_record(data, images, indices, chosen),
    )
    return LoadedCase(suspected, compared, images, chosen, provenance, expected_accuracy)


def load_model(path: Path, choice: ModelChoice, images: ImageSet, device: torch.device) -> nn.Module:
    """Load a checkpoint's model, for such images and classes, in eval mode.

    Raises:
        ConfigError: the architecture isn't given.
        ModelError: the architecture can't be built, or the model fails on such images.
        CheckpointError: the file holds no such model.
    """
    if choice.architecture is None:
        raise ConfigError("give --model as well")
    _, channels, height, width = images.images.shape
    model = build_model(
        choice.architecture,
        num_classes=images.num_classes,
        in_channels=channels,
        image_size=(height, width),
        seed=0,
        arguments=choice.arguments,
    )
    load_checkpoint(path, model, key=choice.key, strip_prefix=choice.strip_prefix)
    if choice.normalization is not None:
        normalized(model, *choice.normalization, channels)
    classes = probe(model, channels, (height, width))
    if classes != images.num_classes:
        missing = "; if images of some classes are missing, name all by --classes"
        raise ModelError(
            f"--model {choice.architecture} returns {classes} logits, but the data has {images.num_classes} classes; "
            "give the data that it was trained for, or a factory that takes num_classes"
            f"{missing if images.num_classes < classes else ''}"
        )
    return model.eval().to(device)


def choose_device(name: str) -> torch.device:
    """The device called ``name``: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on the meta device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"there is no device {name!r} here; try cpu or auto") from error
    return device


def choose_images(images: ImageSet | LazyImages, count: int | None, seed: int) -> ImageSet:
    """Draw ``count`` images (see :func:`choose_indices`) and decode them.

    Raises:
        DataError: there are fewer than ``count``.
    """
    return images.subset(choose_indices(images, count, seed))


def choose_indices(images: ImageSet | LazyImages, count: int | None, seed: int) -> Tensor:
    """Draw the indices of ``count`` images, int64 (count,), balanced over the classes as far as possible.

    Without ``count``, draws 40 per class, but at most 600 in all, or three per class up to 1,000, and at least as many
    as a scan accepts; all where there are fewer.

    Raises:
        DataError: there are fewer than ``count``.
    """
    wanted = _default_count(images.num_classes) if count is None else count
    if count is not None and wanted > len(images):
        raise DataError(
            f"--images {wanted}, but the data has only {len(images)}; use fewer images or more data"
        )
    return stratified(images, min(wanted, len(images)), generator(seed, "images"))


def _default_count(classes: int) -> int:
    return max(min(_PER_CLASS * classes, _MOST), min(_LEAST_PER_CLASS * classes, _MOST_OF_ALL), MIN_IMAGES)


def _affordable(images: ImageSet, cost: int) -> int:
    """How many of the images to scan a model with that takes ``cost`` multiply-adds each."""
    values = images.images[0].numel()
    most = min(_VALUES // values, int(_WORK / (2 * max(1, cost))))
    return min(len(images), max(most, MIN_IMAGES))
