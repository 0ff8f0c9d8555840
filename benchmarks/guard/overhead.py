"""How much of a round a guard in Flower takes, and how many bytes a client sends and gets for each vote.

    python benchmarks/guard/overhead.py --out benchmarks/guard/results/overhead.json

One round of ten clients on the shipped sample, in this process and without a network: training, then the strategy's
aggregation, first alone and then with the guard, which scans the candidate. Times are processor seconds, so that other
programs don't count.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from fedmend import Guard, GuardPolicy, build_model, load_images
from fedmend.data import ImageSet
from fedmend.integrations.flower import GuardedStrategy, Question, answer_votes
from fedmend.local_training import LocalTraining
from fedmend.pruning import locate

CLIENTS = 10
NODES = tuple(range(1, CLIENTS + 1))


class Nodes:
    """As much of a grid as a strategy needs to choose clients."""

    def get_node_ids(self) -> Iterable[int]:
        return NODES


def measure(name: str, epochs: int, images_per_client: int) -> dict[str, Any]:
    """The seconds of one round with one network, and the votes' bytes."""
    images = load_images("fashion-mnist-sample", "train")
    model = build_model(name, num_classes=10, in_channels=1, image_size=(28, 28), seed=0)
    arrays = ArrayRecord(model.state_dict())
    training = LocalTraining(epochs=epochs, batch_size=32, lr=0.003)
    started, states = time.process_time(), []
    for number in range(CLIENTS):
        part = slice(number * images_per_client, (number + 1) * images_per_client)
        model.load_state_dict(arrays.to_torch_state_dict())
        training(model, images.images[part], images.labels[part], seed=number)
        states.append(ArrayRecord(model.state_dict()))
    seconds = {"training": time.process_time() - started}
    with tempfile.TemporaryDirectory() as folder:
        guarded = GuardedStrategy(FedAvg(), guard_of(model, Path(folder) / "history"))
        for key, strategy in (("aggregation alone", FedAvg()), ("aggregation and guard", guarded)):
            replies = trained(strategy, arrays, states)
            started = time.process_time()
            strategy.aggregate_train(1, replies)
            seconds[key] = time.process_time() - started
    guard = seconds["aggregation and guard"] - seconds["aggregation alone"]
    return {
        "network": name,
        "clients": CLIENTS,
        "images_per_client": images_per_client,
        "epochs": epochs,
        "seconds": seconds,
        "guard_share": guard / (seconds["training"] + seconds["aggregation and guard"]),
        "model_bytes": arrays.count_bytes(),
        "vote_bytes": vote_bytes(model, images),
    }


def guard_of(model: nn.Module, history: Path) -> Guard:
    """A guard with the default policy, which trusts the untrained model."""
    own = load_images("fashion-mnist-sample", "test")
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    return Guard(
        GuardPolicy(),
        model=model,
        images=own.images,
        labels=own.labels,
        history=history,
        seed=0,
        trusted=fresh,
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
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1200, help="per client")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    torch.set_num_threads(1)
    rows = [measure(name, given.epochs, given.images) for name in given.networks]
    result = {"rows": rows, "torch": torch.__version__, "machine": platform.processor() or platform.machine()}
    text = json.dumps(result, indent=1)
    print(text)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
