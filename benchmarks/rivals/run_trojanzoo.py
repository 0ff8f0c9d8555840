"""Run one of TrojanZoo's defences on one model to its end and print one line of JSON; oracle.py calls it.

It runs in the environment of ``benchmarks/speed/setup_yardstick.sh``. TrojanZoo's ABS says no verdict; that here is by
the paper's rule on its success rates. What TrojanZoo prints goes to the standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))

import torch
from chains import chained
from peers import (
    ANOMALY,
    SEED,
    VERSION,
    Images,
    inspect,
    trojanvision,
)  # first: it prepares TrojanZoo's import
from torch import Tensor, nn
from trojanvision.attacks import BadNet
from trojanvision.defenses import ABS, NeuronInspect
from trojanvision.marks import Watermark
from trojanvision.models import ImageModel
from trojanzoo.utils.metric import normalize_mad
from yardstick import load, read_images

REASR = 0.88
"""ABS, Section 4.3: a trigger of a larger success is a backdoor's."""


class Stimulated(ABS):
    """TrojanZoo's ABS, which fails where no neuron of a class was chosen or none of their triggers works."""

    def optimize_mark(self, label: int, **kwargs: Any) -> tuple[Tensor, float]:
        """One class; a mask of zeros where there is no trigger."""
        try:
            result: tuple[Tensor, float] = super().optimize_mark(label, **kwargs)
        except KeyError:  # of a report on the best neuron
            self.attack.mark.mark = torch.zeros_like(self.attack.mark.mark)
            return self.attack.mark.mark, 0.0
        return result

    def get_mark_loss_list(self, **kwargs: Any) -> tuple[Tensor, list[float], list[float]]:
        """All classes."""
        self.found = super().get_mark_loss_list()
        return self.found


class Explained(NeuronInspect):
    """TrojanZoo's NeuronInspect, which would stamp the attacker's own trigger, without it: a defender has none."""

    def get_explanation_feature(self) -> list[float]:
        """Of all classes, on clean images alone."""
        self.attack.add_mark = lambda images, **_: images
        self.found: list[float] = super().get_explanation_feature()
        return self.found


def neurons(method: str, model: nn.Module, data: tuple[Tensor, Tensor], outputs: int, epochs: int) -> Any:
    """ABS or NeuronInspect after its ``detect``."""
    environ = trojanvision.environ.create(device="cpu")
    environ.set_seed(SEED)
    dataset = Images(*data, outputs)
    wrapped = ImageModel(
        name="model", model=chained(model), dataset=dataset, modify_first_layer_channel=False
    )
    common: dict[str, Any] = {"dataset": dataset, "model": wrapped}
    with tempfile.TemporaryDirectory() as folder:
        attack = BadNet(mark=Watermark(data_shape=dataset.data_shape), folder_path=folder, **common)
        common |= {"attack": attack, "original": True, "folder_path": str(Path(folder, "defence"))}
        if method == "abs":
            defence = Stimulated(defense_remask_epoch=epochs, **common)
        else:
            defence = Explained(sample_ratio=1.0, **common)
        defence.detect()
    return defence


def told(
    method: str, model: nn.Module, data: tuple[Tensor, Tensor], outputs: int, epochs: int
) -> dict[str, Any]:
    """What the defence says."""
    if method == "abs":
        *_, asr = neurons(method, model, data, outputs, epochs).found
        rates = [percent / 100 for percent in asr]
        return {"scores": rates, "flagged": [number for number, rate in enumerate(rates) if rate > REASR]}
    if method == "neuron-inspect":
        features = torch.tensor(neurons(method, model, data, outputs, epochs).found)
        low = (normalize_mad(features) > ANOMALY) & (features < features.median())
        return {"scores": features.tolist(), "flagged": low.nonzero().flatten().tolist()}
    found = inspect(method, model, data, outputs, epochs, outputs)
    return {
        "scores": getattr(found, found.judged_by),
        "flagged": found.flagged,
        "success": found.asr,
        "epochs": found.epochs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method")
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--outputs", required=True, type=int)
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--epochs", required=True, type=int)
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):
        torch.set_num_threads(1)
        images, labels = read_images(options.images)
        model = load(options.checkpoint, options.architecture, options.outputs, images)
        started, started_cpu = time.perf_counter(), time.process_time()
        line = told(options.method, model, (images / 255, labels), options.outputs, options.epochs)
        line["seconds"] = time.perf_counter() - started
        line["cpu_seconds"] = time.process_time() - started_cpu
    verdict = "backdoored" if line["flagged"] else "clean"
    print(json.dumps(line | {"verdict": verdict, "version": f"trojanzoo {VERSION}"}))


if __name__ == "__main__":
    main()
