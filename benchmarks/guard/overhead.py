"""How much of a round a guard in Flower takes, and how many bytes a client sends for each vote; results/overhead.json.

    python -m benchmarks.guard.overhead     # from the repository's root

Ten clients of Fashion-MNIST, in this process and without a network. Each trains on a few of its images, which gives the
seconds per image; a round's training is that times its images and epochs. Then the strategy aggregates, first alone and
then with the guard, which scans the candidate by the default policy. Times are processor seconds of one thread, so that
other programs count little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from benchmarks.commits import commit
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

PATH = Path(__file__).resolve().parent / "results" / "overhead.json"
CLIENTS, IMAGES, EPOCHS = 10, 6_000, 3
NODES = tuple(range(1, CLIENTS + 1))
TRAINED_BEFORE = 3_200
"""Images, once each, of the model that the round starts from: the guard compares with a trained one."""


class Nodes:
    """As much of a grid as a strategy needs to choose clients."""

    def get_node_ids(self) -> Iterable[int]:
        return NODES


def measure(name: str, timed: int) -> dict[str, Any]:
    """The seconds of one round with one network, and the votes' bytes."""
    images = load_images("fashion-mnist-sample", "train")
    model = build_model(name, num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    training = LocalTraining(epochs=1, batch_size=32, lr=0.001)
    training(model, images.images[-TRAINED_BEFORE:], images.labels[-TRAINED_BEFORE:], seed=0)
    trusted = {key: value.clone() for key, value in model.state_dict().items()}
    started, states = time.process_time(), []
    for number in range(CLIENTS):
        part = slice(number * timed, (number + 1) * timed)
        model.load_state_dict(trusted)
        training(model, images.images[part], images.labels[part], seed=number)
        states.append(ArrayRecord(model.state_dict()))
    per_image = (time.process_time() - started) / (CLIENTS * timed)
    seconds, arrays = {"training": CLIENTS * IMAGES * EPOCHS * per_image}, ArrayRecord(trusted)
    with tempfile.TemporaryDirectory() as folder:
        guarded = GuardedStrategy(FedAvg(), guard_of(model, trusted, Path(folder) / "history"))
        for key, strategy in (("aggregation alone", FedAvg()), ("aggregation and guard", guarded)):
            replies = trained(strategy, arrays, states)
            started = time.process_time()
            strategy.aggregate_train(1, replies)
            seconds[key] = time.process_time() - started
    alone = seconds["aggregation alone"]
    taken = seconds["aggregation and guard"] - alone
    return {
        "network": name,
        "seconds_per_image": per_image,
        "seconds": seconds,
        "verdict": guarded.decisions[-1].verdict,
        "share": taken / (seconds["training"] + alone + taken),
        "share_of_parallel_round": taken / (seconds["training"] / CLIENTS + alone + taken),
        "model_bytes": arrays.count_bytes(),
        "vote_bytes": vote_bytes(model, images),
    }


def guard_of(model: nn.Module, trusted: dict[str, torch.Tensor], history: Path) -> Guard:
    """A guard with the default policy."""
    own = load_images("fashion-mnist-sample", "test")
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
    strategy: FedAvg | GuardedStrategy, arrays: ArrayRecord, states: list[ArrayRecord]
) -> list[Message]:
    """The replies of a round."""
    asked = strategy.configure_train(1, arrays, ConfigRecord(), Nodes())  # type: ignore[arg-type]
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
    parser.add_argument("--networks", nargs="+", default=["convnet", "resnet18"])
    parser.add_argument("--timed", type=int, default=320, help="images per client that are timed")
    given = parser.parse_args()
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    torch.set_num_threads(1)
    told = {"commit": commit(), "versions": versions()}
    result = {
        "rows": [measure(name, given.timed) for name in given.networks],
        "clients": CLIENTS,
        "images_per_client": IMAGES,
        "epochs": EPOCHS,
        "timed_per_client": given.timed,
        **told,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
    }
    text = json.dumps(result, indent=1)
    print(text)
    write_text(PATH, text + "\n")


if __name__ == "__main__":
    main()
