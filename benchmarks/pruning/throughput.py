"""Samples a second of a client's training, and what each choice in it is worth; results/throughput.json.

    python benchmarks/pruning/throughput.py --repeats 5

One client trains an epoch of SGD at a batch of 64 on 2,000 images of MNIST, on one core. The variants take turns, and
each is compared with the simulator's own ("as it is") of the same turn: the textbook loop (a DataLoader over float
images, weights and images in torch's usual memory order), that order alone, and Adam. Then four such fits by one
process of two threads, and by two processes of one thread each. Run it alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fedmend import load_images
from fedmend.files import write_text
from fedmend.local_training import LocalTraining
from fedmend.models import build_model
from fedmend.pixels import to_float
from models import NETWORKS

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

PATH = Path(__file__).parent / "results" / "throughput.json"
IMAGES, BATCH, LR, FITS = 2000, 64, 0.05, 4
SGD = LocalTraining(epochs=1, batch_size=BATCH, optimizer="sgd", lr=LR, momentum=0.0)


def fit(
    network: str, images: Tensor, labels: Tensor, config: LocalTraining = SGD, order: str = "channels_last"
) -> float:
    """Samples a second of the simulator's loop."""
    model = fresh(network).to(memory_format=getattr(torch, order))
    started = time.perf_counter()
    config(model, images, labels, 0)
    return len(images) / (time.perf_counter() - started)


def textbook(network: str, images: Tensor, labels: Tensor) -> float:
    """Samples a second of the loop that most tutorials show."""
    model = fresh(network)
    loader = DataLoader(TensorDataset(to_float(images), labels), BATCH, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), LR)
    started = time.perf_counter()
    for batch, classes in loader:
        optimizer.zero_grad()
        cross_entropy(model(batch), classes).backward()
        optimizer.step()
    return len(images) / (time.perf_counter() - started)


def fresh(network: str) -> nn.Module:
    return build_model(network, num_classes=10, in_channels=1, image_size=(28, 28), seed=0).train()


@cache
def some_images() -> tuple[Tensor, Tensor]:
    data = load_images("mnist", "train")
    return data.images[:IMAGES], data.labels[:IMAGES]


def fits(task: tuple[str, int, int]) -> None:
    """So many fits in this process, with so many threads."""
    network, count, threads = task
    torch.set_num_threads(threads)
    for _ in range(count):
        fit(network, *some_images())


def in_processes(network: str, processes: int) -> float:
    """Samples a second of two cores: starting processes and reading the images isn't timed."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        share, threads = FITS // processes, 2 // processes
        list(pool.imap_unordered(fits, [(network, 1, threads)] * processes, chunksize=1))
        started = time.perf_counter()
        list(pool.imap_unordered(fits, [(network, share, threads)] * processes, chunksize=1))
        return FITS * IMAGES / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = some_images()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for network in dict.fromkeys(NETWORKS.values()):
        variants: dict[str, Callable[[], float]] = {
            "as it is": partial(fit, network, images, labels),
            "textbook loop": partial(textbook, network, images, labels),
            "usual memory order": partial(fit, network, images, labels, order="contiguous_format"),
            "Adam": partial(
                fit, network, images, labels, LocalTraining(epochs=1, batch_size=BATCH, optimizer="adam")
            ),
            "two threads": partial(in_processes, network, 1),
            "two processes": partial(in_processes, network, 2),
        }
        fit(network, images, labels)
        turns = [{name: run() for name, run in variants.items()} for _ in range(options.repeats)]
        rows[network] = {
            name: {
                "samples": median(turn[name] for turn in turns),
                "ratio": median(turn[name] / turn["as it is"] for turn in turns),
                "lowest": min(turn[name] / turn["as it is"] for turn in turns),
                "highest": max(turn[name] / turn["as it is"] for turn in turns),
            }
            for name in variants
        }
        print(network, rows[network], flush=True)
    machine = {"machine": f"{platform.machine()}, 2 cores", "torch": torch.__version__, "commit": commit()}
    file = {"repeats": options.repeats, "rows": rows} | machine
    write_text(PATH, json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
