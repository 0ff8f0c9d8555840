"""Write the sample of Fashion-MNIST that ships in ``fedmend.data``; the same seed gives the same images."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fedmend.data import ImageSet, load_images, stratified
from fedmend.files import write_atomically

_COUNTS = {"train": 12_000, "test": 2_000}


def main() -> None:
    """Draw as many images of each class and write ``train.npz`` and ``test.npz``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FEDMEND_DATA"),
        help="folder that holds fashion_mnist/{train,test}.parquet; default: FEDMEND_DATA, else the hub",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "src" / "fedmend" / "data" / "sample"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.data is not None:
        os.environ["FEDMEND_DATA"] = str(arguments.data)
    generator = torch.Generator().manual_seed(arguments.seed)
    for split, count in _COUNTS.items():
        images = load_images("fashion-mnist", split)
        chosen = images.subset(stratified(images, count, generator))
        path = arguments.out / f"{split}.npz"
        write_atomically(path, partial(_write, image_set=chosen))
        print(f"{path}: {len(chosen)} images, {path.stat().st_size / 1e6:.2f} MB")


def _write(path: Path, image_set: ImageSet) -> None:
    with path.open("wb") as file:  # a name instead of a file would get .npz appended
        np.savez_compressed(
            file,
            images=image_set.images[:, 0].numpy(),
            labels=image_set.labels.numpy().astype(np.uint8),
            class_names=np.array(image_set.class_names),
        )


if __name__ == "__main__":
    main()
