"""TrojanZoo's defences on one model and a few images, its optimisation code as it is.

Runs in the environment that setup_yardstick.sh makes. What TrojanZoo wants around a defence is given to it as plain
objects: the images as a data set, the model as it is, and an attack that is never carried out or loaded.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

if (
    torch.version.cuda is None
):  # torchvision's compiled operators need CUDA's libraries, and its import needs two names
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import trojanvision.environ
import trojanzoo
from trojanvision.attacks import BadNet
from trojanvision.datasets import ImageSet
from trojanvision.defenses import DeepInspect, NeuralCleanse, Tabor
from trojanvision.defenses.abstract import ModelInspection
from trojanvision.marks import Watermark
from trojanvision.models import ImageModel
from trojanzoo.utils.metric import normalize_mad

METHODS = {"neural-cleanse": NeuralCleanse, "tabor": Tabor, "deep-inspect": DeepInspect}
SETTINGS: dict[str, dict[str, Any]] = {"deep-inspect": {"sample_ratio": 1.0}}
BATCH_SIZE = 96  # TrojanZoo's own for CIFAR-10 and GTSRB; with MNIST's 512, too, 30 images are one batch
SEED = 1228  # TrojanZoo's own
ANOMALY = 2.0
VERSION = str(trojanzoo.__version__)


class Images(ImageSet):
    """The images, float in [0, 1], as TrojanZoo's training set and as its validation set; nothing is augmented."""

    name = "images"

    def __init__(self, images: Tensor, labels: Tensor, num_classes: int) -> None:
        self.tensors = TensorDataset(images, labels)
        self.data_shape = list(images.shape[1:])
        self.num_classes = num_classes
        super().__init__(batch_size=BATCH_SIZE, num_workers=0)

    def get_transform(self, mode: str, normalize: bool | None = None) -> None:
        """None: the images come as the model takes them."""

    def _get_org_dataset(self, mode: str, transform: Any = None, **kwargs: Any) -> TensorDataset:
        return self.tensors


class Watch:
    """Mixed into a defence: notes each class's time and epochs and keeps what was found. It changes nothing else."""

    def optimize_mark(self, *args: Any, **kwargs: Any) -> tuple[Tensor, float]:
        """One class."""
        self.checks = 0
        started = time.perf_counter()
        result = super().optimize_mark(*args, **kwargs)  # type: ignore[misc]
        self.seconds.append(time.perf_counter() - started)
        self.epochs.append(self.checks or self.defense_remask_epoch)  # DeepInspect never checks
        return result

    def check_early_stop(self, *args: Any, **kwargs: Any) -> bool:
        """Asked at the end of each epoch."""
        self.checks += 1
        return super().check_early_stop(*args, **kwargs)  # type: ignore[misc]

    def get_mark_loss_list(self, **kwargs: Any) -> tuple[Tensor, list[float], list[float]]:
        """All classes, without the accuracies that TrojanZoo would measure only to print them."""
        self.seconds: list[float] = []
        self.epochs: list[int] = []
        self.found = super().get_mark_loss_list(verbose=False, **kwargs)  # type: ignore[misc]
        return self.found


@dataclass(frozen=True)
class Outcome:
    """What a defence found; the lists have an entry a class.

    Attributes:
        seconds: of the optimisation of each class.
        epochs: how many each class took.
        asr: share of the images, its own among them, that the recovered trigger sends to the class.
        mask_norms: L1 norm of the recovered mask, in pixels.
        pattern_norms: L1 norm of the recovered pattern.
        judged_by: which of the two norms the anomaly index is of. DeepInspect's mask is always the whole image;
            what its loss keeps small is the pattern.
        anomaly: distance from the median in MADs, normalized, by TrojanZoo's own function.
        flagged: the classes with an anomaly above 2 and a norm below the median.
    """

    seconds: list[float]
    epochs: list[int]
    asr: list[float]
    mask_norms: list[float]
    pattern_norms: list[float]
    judged_by: str
    anomaly: list[float]
    flagged: list[int]


def inspect(
    method: str, model: nn.Module, data: tuple[Tensor, Tensor], num_classes: int, epochs: int, classes: int
) -> Outcome:
    """Set a defence up and run it to its end; it prints as it goes.

    Args:
        method: a name in ``METHODS``.
        model: takes pixels in [0, 1] and returns logits. Its weights lose their ``requires_grad``.
        data: images, float (N, C, H, W) in [0, 1], and labels, int64 (N,).
        num_classes: how many logits the model returns.
        epochs: at most so many a class.
        classes: only the first so many.
    """
    environ = trojanvision.environ.create(device="cpu")
    environ.set_seed(SEED)
    dataset = Images(*data, num_classes)
    wrapped = ImageModel(name="model", model=model, dataset=dataset, modify_first_layer_channel=False)
    wrapped.num_classes = classes  # from here on, only how many classes a defence goes through
    common = {"dataset": dataset, "model": wrapped}
    watched = type("Watched", (Watch, METHODS[method]), {})
    with tempfile.TemporaryDirectory() as folder:
        attack = BadNet(mark=Watermark(data_shape=dataset.data_shape), folder_path=folder, **common)
        defence: ModelInspection = watched(
            attack=attack,
            original=True,  # don't load the attack
            defense_remask_epoch=epochs,
            folder_path=str(Path(folder, "defence")),
            **common,
            **SETTINGS.get(method, {}),
        )
        defence.detect()
    return _outcome(method, defence)


def _outcome(method: str, defence: Any) -> Outcome:
    marks, _, asr = defence.found
    marks = marks.detach()
    norms = {
        "mask_norms": marks[:, -1].flatten(1).norm(p=1, dim=1),
        "pattern_norms": marks[:, :-1].flatten(1).norm(p=1, dim=1),
    }
    judged_by = "pattern_norms" if method == "deep-inspect" else "mask_norms"
    size = norms[judged_by]
    anomaly = normalize_mad(size)
    flagged = (anomaly > ANOMALY) & (size < size.median())
    return Outcome(
        seconds=defence.seconds,
        epochs=defence.epochs,
        asr=[percent / 100 for percent in asr],
        judged_by=judged_by,
        anomaly=anomaly.tolist(),
        flagged=flagged.nonzero().flatten().tolist(),
        **{name: norm.tolist() for name, norm in norms.items()},
    )
