"""How much of a class a few pixels move in honest models; results/honest.json.

    python benchmarks/pruning/honest.py

Searches the honest models of the detection benchmark (its trunk and six branches a dataset; run its train.py first)
as a client searches, on 640 images of the test split, 64 a class.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import torch

from fedmend import load_images
from fedmend.data import stratified
from fedmend.detection import FewPixels, few_pixel_triggers
from fedmend.federation import RunFolder
from fedmend.files import write_text
from fedmend.repairs import round_model
from fedmend.seeds import generator

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

RUNS = Path(__file__).parents[1] / "runs" / "detection"
PATH = Path(__file__).parent / "results" / "honest.json"
IMAGES = 640


def main() -> None:
    torch.set_num_threads(1)
    models = {}
    for source in ("mnist", "fashion-mnist"):
        test = load_images(source, "test")
        own = test.subset(stratified(test, IMAGES, generator(0, "x")))
        for name in ("trunk", *(f"clean-{index}" for index in range(6))):
            model = round_model(RunFolder(RUNS / source / name), own)
            best = few_pixel_triggers(model, own.images, own.labels, search=FewPixels(most=1))[0]
            found = {"source": best.source_class, "target": best.target_class, "rate": best.rate}
            models[f"{source}/{name}"] = found
            print(source, name, found, flush=True)
    file = {
        "models": models,
        "machine": f"{platform.machine()}, one core",
        "torch": torch.__version__,
        "commit": commit(),
    }
    write_text(PATH, json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
