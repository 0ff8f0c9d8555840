"""Memory of a server that guards 200 rounds of a tiny federation: resident after each review.

    python -m benchmarks.guard.memory [--rounds 200]     # from the repository's root

Writes ``results/memory.json`` and ``figures/memory.svg`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from benchmarks.commits import commit
from torch import Tensor, nn

from fedmend import Guard, GuardPolicy
from fedmend.files import write_text
from fedmend.seeds import generator
from fedmend.version_info import versions

HERE, STATUS = Path(__file__).parent, Path("/proc/self/status")
SETTLED = 20
"""Reviews after which growth counts: before, torch allocates what it keeps."""
POLICY = {
    "detectors": [
        {"kind": "differential", "effort": "quick", "search": {"explore_steps": 2, "refine_steps": 1}}
    ],
    "images_per_class": 5,
    "older_references": [5],
    "time_limit": 600.0,
}
CLASSES, SIDE = 4, 12


def network() -> nn.Module:
    """A small network with batch statistics."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(200, CLASSES),
    )


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images with a bright block in the quarter of their class."""
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 100, (count, 1, SIDE, SIDE), generator=generator(seed), dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = 3 + 5 * (label // 2), 3 + 5 * (label % 2)
        image[0, top : top + 3, left : left + 3] += 80
    return images, labels


def train(model: nn.Module, steps: int, seed: int) -> nn.Module:
    """Some steps of an honest round."""
    images, labels = draw(400, seed=0)
    optimizer = torch.optim.Adam(model.train().parameters(), 0.003)
    for _ in range(steps):
        batch = torch.randint(len(images), (32,), generator=generator(seed, steps))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch] / 255), labels[batch]).backward()
        optimizer.step()
    return model.eval()


def resident_mib() -> float:
    """What of this process is in memory, in MiB."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = draw(100, seed=1)
    model = train(network(), 200, seed=0)
    actions: list[str] = []
    resident: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        guard = Guard(
            GuardPolicy.from_table(POLICY),
            model=model,
            images=images,
            labels=labels,
            history=Path(folder) / "history",
            seed=1,
            trusted=model,
        )
        for number in range(1, rounds + 1):
            decision = guard.review(train(model, 3, seed=number), number)
            assert decision.continue_from is not None
            model.load_state_dict(dict(decision.continue_from))
            actions.append(decision.action)
            resident.append(resident_mib())
        disk = sum(file.stat().st_size for file in (Path(folder) / "history" / "models").iterdir())
    save(actions, resident, disk)


def save(actions: list[str], resident: list[float], disk: int) -> None:
    """Write the figures and the plot."""
    growth = resident[-1] - resident[min(SETTLED, len(resident)) - 1]
    result = {
        "rounds": len(resident),
        "actions": {action: actions.count(action) for action in sorted(set(actions))},
        "resident_mib": [round(each, 1) for each in resident],
        "growth_after_20_reviews_mib": round(growth, 1),
        "models_on_disk_bytes": disk,
        "policy": POLICY,
        "commit": commit(),
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
    }
    for name in ("results", "figures"):
        (HERE / name).mkdir(exist_ok=True)
    write_text(HERE / "results" / "memory.json", json.dumps(result, indent=1) + "\n")
    _, axes = plt.subplots(figsize=(7, 3))
    axes.plot(range(1, len(resident) + 1), resident)
    axes.set(xlabel="review", ylabel="resident memory, MiB", ylim=(0, 1.2 * max(resident)))
    plt.tight_layout()
    plt.savefig(HERE / "figures" / "memory.svg")
    print(
        f"{len(resident)} reviews: {growth:+.1f} MiB after the first {SETTLED}, {disk} bytes of models on disk"
    )


if __name__ == "__main__":
    main()
