"""How much of a round a guard in Flower takes, and how many bytes a client sends for each vote; results/overhead.json.

    python -m benchmarks.guard.overhead     # from the repository's root

Ten clients of Fashion-MNIST, in this process and without a network. In each round every client trains on a few of its
images, which gives the seconds per image; a round's training is that times its images and epochs. Then the strategy
aggregates, once alone and once with the guard, which reviews the candidate by the default policy. A round's overhead
is the mean of all rounds but the first, which loads code. Times are processor seconds of one thread, so that other
programs count little. Each network's row is written when it is done and replaces an older one; ResNet18 takes an hour.
Set FEDMEND_DATA to read the images from parquet files instead of the hub.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from benchmarks.commits import commit
from benchmarks.guard.targets import NETWORKS, RESULTS, read
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from fedmend import Guard, GuardPolicy, build_model, load_images
from fedmend.data import ImageSet
from fedmend.files import write_text
from fedmend.integrations.flower import GuardedStrategy, Question, answer_votes
from fedmend.local_training import LocalTraining
from fedmend.pruning import locate
from fedmend.version_info import versions

PATH = RESULTS / "overhead.json"
ASKED = ("convnet",)
"""Networks whose votes are measured; a client of the large one would search for hours."""
CLIENTS, IMAGES, EPOCHS = 10, 6_000, 3
ROUNDS = 5
OWN = 2_000
"""The guard's images."""
NODES = tuple(range(1, CLIENTS + 1))
TRAINED_BEFORE, PASSES = 10_000, 2
"""Images, and how often each, of the model that the first round starts from: the guard compares with a trained one."""


class Nodes:
    """As much of a grid as a strategy needs to choose clients."""

    def get_node_ids(self) -> Iterable[int]:
        return NODES


def measure(name: str, timed: int) -> dict[str, Any]:
    """The seconds of one round with one network, and the votes' bytes: a row of the results."""
    told = {"commit": commit(), "versions": versions()}
    images = load_images("fashion-mnist", "train")
    model = build_model(name, num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    training = LocalTraining(epochs=1, batch_size=32, lr=0.0005)
    before = replace(training, epochs=PASSES, lr=0.002)
    before(model, images.images[-TRAINED_BEFORE:], images.labels[-TRAINED_BEFORE:], seed=0)
    trusted = {key: value.clone() for key, value in model.state_dict().items()}
    arrays, spent = ArrayRecord(trusted), dict[str, list[float]](training=[], alone=[], guarded=[])
    with tempfile.TemporaryDirectory() as folder:
        guarded = GuardedStrategy(FedAvg(), guard_of(model, trusted, Path(folder) / "history"))
        for number in range(1, ROUNDS + 1):
            started, states = time.process_time(), []
            for client in range(CLIENTS):
                part = slice(client * timed, (client + 1) * timed)
                model.load_state_dict(arrays.to_torch_state_dict())
                training(model, images.images[part], images.labels[part], seed=number * CLIENTS + client)
                states.append(ArrayRecord(model.state_dict()))
            spent["training"].append(time.process_time() - started)
            for key, strategy in (("alone", FedAvg()), ("guarded", guarded)):
                replies = trained(strategy, number, arrays, states)
                started = time.process_time()
                aggregated, _ = strategy.aggregate_train(number, replies)
                spent[key].append(time.process_time() - started)
            assert aggregated is not None
            arrays = aggregated
    per_image = mean(spent["training"]) / (CLIENTS * timed)
    round_of_training, alone = CLIENTS * IMAGES * EPOCHS * per_image, mean(spent["alone"])
    reviews = [taken - alone for taken in spent["guarded"]]
    review = mean(reviews[1:])
    return {
        "network": name,
        "seconds_per_image": per_image,
        "seconds": {"training": round_of_training, "aggregation": alone, "reviews": reviews},
        "scans": [len(each.evidence["scans"]) for each in guarded.decisions],
        "verdicts": [each.verdict for each in guarded.decisions],
        "share": review / (round_of_training + alone + review),
        "share_of_parallel_round": review / (round_of_training / CLIENTS + alone + review),
        "model_bytes": arrays.count_bytes(),
        "vote_bytes": vote_bytes(model, images) if name in ASKED else {},
        "clients": CLIENTS,
        "images_per_client": IMAGES,
        "epochs": EPOCHS,
        "timed_per_client": timed,
        **told,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
    }


def guard_of(model: nn.Module, trusted: dict[str, torch.Tensor], history: Path) -> Guard:
    """A guard with the default policy."""
    own = load_images("fashion-mnist", "test").subset(range(OWN))
    return Guard(
        GuardPolicy(),
        model=model,
        images=own.images,
        labels=own.labels,
        history=history,
        seed=0,
        trusted=trusted,
    )


def trained(
    strategy: FedAvg | GuardedStrategy, number: int, arrays: ArrayRecord, states: list[ArrayRecord]
) -> list[Message]:
    """The replies of a round."""
    asked = strategy.configure_train(number, arrays, ConfigRecord(), Nodes())  # type: ignore[arg-type]
    metrics = MetricRecord({"num-examples": 1})
    return [
        Message(RecordDict({"arrays": state, "metrics": metrics}), reply_to=message)
        for message, state in zip(asked, states, strict=True)
    ]


def vote_bytes(model: nn.Module, images: ImageSet) -> dict[str, int]:
    """What a client sends for each kind of question, without the envelope of the transport."""
    some = images.subset(range(200))
    layer = locate(model, some.images[:1])
    channels = layer.convolution.out_channels
    mod = answer_votes(lambda context: (some.images, some.labels), lambda: model)
    questions = {
        "ranks": Question("ranks", layer.name),
        "accuracies": Question("accuracies", layer.name, tuple(range(channels)), (0, channels // 2)),
        "triggers": Question("triggers"),
    }
    found = {}
    for kind, question in questions.items():
        message = Message(question.content(dict(model.state_dict())), NODES[0], "train")
        reply = mod(message, Context(1, 1, {}, RecordDict(), {}), _unasked)
        found[kind] = sum(record.count_bytes() for record in reply.content.array_records.values())
    return found


def _unasked(message: Message, context: Context) -> Message:
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--timed", type=int, default=320, help="images per client that are timed")
    given = parser.parse_args()
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    torch.set_num_threads(1)
    for name in given.networks:
        row = measure(name, given.timed)
        print(json.dumps(row, indent=1), flush=True)
        others = [each for each in read("overhead").get("rows", ()) if each["network"] != name]
        write_text(PATH, json.dumps({"rows": [*others, row]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
