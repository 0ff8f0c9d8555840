"""The contrastive paper's experiments at the full size of its networks, on a GPU, within a given time. See gpu.sh.

    python benchmarks/paper_a/gpu.py cifar10 --state FOLDER --minutes 9
    python benchmarks/paper_a/gpu.py cifar10 --state FOLDER --minutes 3 --tiny --device cpu     # a dry run

The folder holds what goes on from lease to lease: the trunk's weights in float16, and a line for each model and each
timed scan. The trunk is trained centrally; the attacked and honest branches are federations.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit
from benchmarks.paper_a.captured_training import CapturedFit, CapturedTraining
from benchmarks.paper_a.federations import Federation, branches, checkpoint, trunks
from benchmarks.paper_a.measuring import OURS, PAPER, Job, Subject, detector_of, line_of, subject_of
from benchmarks.paper_a.scales import Scale
from benchmarks.paper_a.training import RECORDED, images_of, network, runs_of

from fedmend import Case, accuracy, scan
from fedmend.checkpoints import read_state, save_state
from fedmend.data import ImageSet, stratified
from fedmend.federation import Execution, simulate
from fedmend.local_training import LocalTraining
from fedmend.seeds import generator

TRUNK = "trunk.safetensors"
SCALES = {
    "cifar10": Scale(
        "cifar10-gpu",
        "cifar10",
        "CIFAR-10, ResNet18",
        "resnet18",
        LocalTraining(epochs=2, batch_size=64, lr=0.0005),
        trunk_rounds=1,
        rounds=4,
        start_lrs=(0.002,) * 8 + (0.001,) * 6 + (0.0003,) * 4 + (0.0001,) * 2,
        start_images=50_000,
        amplification={"sba": 2.0, "dba": 1.0},
    ),
    "gtsrb": Scale(
        "gtsrb-gpu",
        "gtsrb",
        "GTSRB, ResNet-34",
        "resnet34",
        LocalTraining(epochs=2, batch_size=64, lr=0.0005),
        trunk_rounds=1,
        rounds=4,
        start_lrs=(0.001,) * 10 + (0.0003,) * 4 + (0.0001,) * 2,
        start_images=39_000,
        amplification={"sba": 2.0, "dba": 1.0},
    ),
}
NETWORKS = {"cifar10": "resnet18", "gtsrb": "resnet34, 43 classes"}
BRANCH_SECONDS = 60.0
"""Time that must be left for another model, before one has been measured."""


@dataclass(frozen=True)
class Lease:
    """What a run has: a deadline, a device and a folder.

    Attributes:
        ends: by ``time.monotonic()``.
        device: such as ``cuda``.
        state: the folder that goes on from lease to lease.
        timed: scans of which the median time is taken.
    """

    ends: float
    device: str
    state: Path
    timed: int = 5

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def append(self, name: str, line: dict[str, Any]) -> None:
        """Add a line to a file of the state."""
        with (self.state / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file of the state."""
        path = self.state / name
        return (
            [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if path.exists()
            else []
        )

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device != "cpu":
            torch.cuda.synchronize()


def tiny(scale: Scale) -> Scale:
    """The same for a dry run."""
    return replace(
        scale,
        arguments={"width": 4},
        training=LocalTraining(epochs=1, batch_size=16, images_per_epoch=32),
        start_lrs=(0.003,),
        start_images=640,
        rounds=1,
    )


def trunk(scale: Scale, lease: Lease) -> None:
    """The clean trunk, from the state or trained centrally, as the checkpoint that branches start from.

    An epoch is left out where time runs short, which the line in times.jsonl tells.
    """
    file = checkpoint(runs_of(scale), trunks(scale, runs_of(scale))["trunk"])
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = lease.state / TRUNK
    if not kept.exists():
        net = network(scale).to(lease.device, memory_format=torch.channels_last)
        images, test = images_of(scale.dataset)
        own = ImageSet(images.images.to(lease.device), images.labels.to(lease.device), images.class_names)
        began, epochs = time.monotonic(), 0
        for number, rate in enumerate(scale.start_lrs):
            settings = LocalTraining(epochs=1, batch_size=128, lr=rate, images_per_epoch=scale.start_images)
            if number == 0 or rate != scale.start_lrs[number - 1]:
                trained = CapturedTraining(net, len(own), settings)
            if number and lease.left < 120:
                break
            trained(net, own.images, own.labels, number)
            epochs += 1
        print(
            f"trunk: {epochs} of {len(scale.start_lrs)} epochs, accuracy "
            f"{accuracy(net.eval(), test.images, test.labels):.2%}, {time.monotonic() - began:.0f} s",
            flush=True,
        )
        half = {
            name: value.half() if value.is_floating_point() else value
            for name, value in net.state_dict().items()
        }
        save_state(half, kept)
    whole = {
        name: value.float() if value.is_floating_point() else value
        for name, value in read_state(kept).items()
    }
    save_state(whole, file)


def jobs(scale: Scale) -> Iterator[Federation]:
    """The branches of Table 4, most decisive first."""
    return (each for each in branches(scale, runs_of(scale)) if each.study in ("sba", "dba", "clean"))


def branch(scale: Scale, federation: Federation, fit: CapturedFit, device: str) -> None:
    """Run one federation, anew."""
    folder = runs_of(scale) / federation.name
    shutil.rmtree(folder, ignore_errors=True)
    training, test = images_of(scale.dataset)
    recorded = test.subset(stratified(test, RECORDED, generator(0, "paper_a", "recorded")))
    execution = Execution(device=device, fit=fit)
    simulate(federation.config, folder, data=(training, recorded), execution=execution)


def timed(lease: Lease, dataset: str, scale: Scale, subject: Subject, told: dict[str, str]) -> None:
    """The median time of the default scan, and the first one's, which includes the libraries' start."""
    detector, count = detector_of(scale, OURS)
    images = subject.images(count, 0, "scan")
    case, seconds, verdict = Case(subject.suspect, subject.reference, images.images, images.labels), [], ""
    for seed in range(1 + lease.timed):
        lease.synchronize()
        began = time.perf_counter()
        verdict = scan(case, detector, seed=seed).verdict
        lease.synchronize()
        seconds.append(time.perf_counter() - began)
    line = {"network": NETWORKS[dataset], "seconds": median(seconds[1:]), "first_seconds": seconds[0]}
    line |= {"scans": lease.timed, "verdict": verdict, "images": count}
    print(line, flush=True)
    lease.append("times.jsonl", line | told)


def on(device: str, subject: Subject) -> Subject:
    """The subject with its models on a device, channels-last."""
    suspect, reference = (
        model.to(device, memory_format=torch.channels_last) for model in (subject.suspect, subject.reference)
    )
    return replace(subject, suspect=suspect, reference=reference)


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=SCALES)
    parser.add_argument("--state", type=Path, required=True, help="folder that goes on from lease to lease")
    parser.add_argument("--minutes", type=float, default=9.0, help="wall time, the start included")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="narrow networks, few images: a dry run")
    parser.add_argument("--most", type=int, help="at most so many models")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    lease = Lease(started + 60 * options.minutes, options.device, options.state, 1 if options.tiny else 5)
    scale = tiny(SCALES[options.dataset]) if options.tiny else SCALES[options.dataset]
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    told = {"commit": commit(), "torch": torch.__version__, "python": platform.python_version()}
    told |= {"device": f"{name}, dry run" if options.tiny else name, "machine": name}
    trunk(scale, lease)
    net = network(scale).to(lease.device, memory_format=torch.channels_last)
    fit = CapturedFit(CapturedTraining(net, 2 * len(images_of(scale.dataset)[0]) // 20 + 2, scale.training))
    done = {(line["name"], line["method"]) for line in lease.lines("models.jsonl")}
    slowest = BRANCH_SECONDS
    for number, federation in enumerate(list(jobs(scale))[: options.most]):
        missing = [method for method in (PAPER, OURS) if (federation.name, method) not in done]
        if not missing:
            continue
        if lease.left < slowest:
            break
        began = time.monotonic()
        branch(scale, federation, fit, lease.device)
        subject = on(lease.device, subject_of(scale, federation, None))
        if not lease.lines("times.jsonl"):
            timed(lease, options.dataset, scale, subject, told)
        for method in missing:
            line = line_of(scale, Job(federation, method), subject) | told
            lease.append("models.jsonl", line)
            print(federation.name, method, line["verdict"], line["asr"], line.get("repair"), flush=True)
        shutil.rmtree(runs_of(scale) / federation.name)
        took = time.monotonic() - began
        slowest = took if number == 0 else max(slowest, took)
    print(f"{lease.left:.0f} s left", flush=True)


if __name__ == "__main__":
    main()
