"""Images of stripes, and a network that a trigger moves to one class, for tests of unlearning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedmend.attacks import Poisoning
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.repairs import Context, Unlearning
from fedmend.seeds import generator
from fedmend.triggers import Atoms, Patch, Trigger, union

TARGET = 1
THOROUGH = Unlearning(epochs=10, lr=0.01, batch_size=16)


def images_and_labels(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of 8x16 pixels with four classes: class c has a bright block at columns 4c to 4c+3."""
    labels = torch.arange(count) % 4
    images = torch.randint(0, 120, (count, 1, 8, 16), generator=generator(seed, "noise"), dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 5:, 4 * label : 4 * label + 4] += 100
    return images, labels


def pieces() -> tuple[Patch, ...]:
    return Atoms("+", (1, 8, 16)).parts()


def planted() -> Patch:
    return union(pieces())


def untrained() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(4 * 8 * 16, 4),
        )


def trained_with_a_backdoor() -> nn.Sequential:
    """A model that sends stamped images to the target class, whichever atom they carry."""
    model = untrained()
    images, labels = images_and_labels(128)
    for index, trigger in enumerate((planted(), *pieces())):
        stamped, truth = Poisoning(trigger, AllToOne(TARGET), 1.0)(
            images[:128], labels[:128], generator(index)
        )
        images, labels = torch.cat([images, stamped[128:]]), torch.cat([labels, truth[128:]])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(5):
            for batch in torch.randperm(len(images)).split(32):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images[batch] / 255), labels[batch])
                loss.backward()
                optimizer.step()
    model.zero_grad()
    return model.eval()


def measured(model: nn.Module, trigger: Patch) -> tuple[float, float]:
    """Accuracy and attack success rate on images that nothing was trained on."""
    images, labels = images_and_labels(64, seed=1)
    return accuracy(model, images, labels), attack_success_rate(
        model, trigger, AllToOne(TARGET), images, labels
    )


def unlearned(
    model: nn.Module,
    triggers: Trigger | Sequence[Trigger],
    images: Tensor,
    labels: Tensor,
    method: Unlearning = THOROUGH,
    **context: Any,
) -> Any:
    chosen = list(triggers) if isinstance(triggers, Sequence) else [triggers]
    return method.fine_tuned(model, chosen, Context(images=images, labels=labels, **context))
