"""Run ART's activation clustering on labelled images and print one line of JSON; oracle.py calls it.

It runs in the environment of setup_art.sh, with the paper's settings: ten independent components, two clusters, judged
by size and silhouette. Of a suspicious class, ART gives the smaller cluster out as clean and the other as poisoned;
here, the smaller one is taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import art
import numpy as np
import torch
from art.defences.detector.poison import ActivationDefence
from art.estimators.classification import PyTorchClassifier
from chains import chained
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))

from yardstick import load, read_images


def clustered(model: nn.Sequential, images: Tensor, labels: Tensor, outputs: int) -> dict[str, Any]:
    """What ART says: suspicious classes, silhouettes and the numbers of the poisoned images."""
    *before, last = model.classifier.children()
    chain = nn.Sequential(model.normalize, model.features, model.pool, model.flatten, *before, last)
    classifier = PyTorchClassifier(
        chain, nn.CrossEntropyLoss(), tuple(images.shape[1:]), outputs, clip_values=(0, 1)
    )
    defence = ActivationDefence(classifier, images.numpy(), np.eye(outputs)[labels.numpy()])
    report, _ = defence.detect_poison(
        nb_clusters=2, nb_dims=10, reduce="FastICA", cluster_analysis="silhouette-scores"
    )
    classes = [report[f"class_{number}"] for number in range(outputs)]
    flagged = [number for number, told in enumerate(classes) if told["suspicious"]]
    poisoned: list[int] = []
    for number in flagged:
        clusters = np.asarray(defence.clusters_by_class[number])
        own = (labels == number).nonzero().flatten().numpy()
        poisoned += own[clusters == np.bincount(clusters).argmin()].tolist()
    return {
        "scores": [float(told["avg_silhouette_score"]) for told in classes],
        "flagged": flagged,
        "poisoned": sorted(poisoned),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--outputs", required=True, type=int)
    parser.add_argument("--images", required=True, type=Path)
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):
        torch.set_num_threads(1)
        np.random.seed(0)  # ART draws from it
        images, labels = read_images(options.images)
        model = chained(load(options.checkpoint, options.architecture, options.outputs, images))
        started, started_cpu = time.perf_counter(), time.process_time()
        line = clustered(model, images / 255, labels, options.outputs)
        line["seconds"] = time.perf_counter() - started
        line["cpu_seconds"] = time.process_time() - started_cpu
    verdict = "backdoored" if line["flagged"] else "clean"
    print(json.dumps(line | {"verdict": verdict, "version": f"art {art.__version__}"}))


if __name__ == "__main__":
    main()
