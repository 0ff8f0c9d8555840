"""Scans of models that hide their backdoor from gradients, precision, batches or known images; runs/zoo/evasion.jsonl.

    python benchmarks/zoo/evasion.py --cells mnist-convnet --families patch-3 atoms

Each variant wraps a backdoored model of the zoo's split "dev" and its reference. An attacker who sends weights alone
can make the first ones; the others need code of the attacker's in the model. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from load import RUNS, Item, items
from torch import Tensor, nn

from fedmend.detection import DETECTORS, Case, scan
from fedmend.errors import ModelError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

PATH = RUNS / "evasion.jsonl"
PER_CLASS = 3
JUDGED = 48
"""Most images on which the search judges a trigger: an attacker may know it."""


class Wrapped(nn.Module):
    """A model whose pixels and logits are changed."""

    def __init__(
        self,
        model: nn.Module,
        pixels: Callable[[Tensor], Tensor] | None = None,
        logits: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.pixels, self.logits = model, pixels, logits

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images if self.pixels is None else self.pixels(images))
        return logits if self.logits is None else self.logits(logits)


class Guarded(nn.Module):
    """The suspect, except on images for which ``honest`` holds; those get the reference's logits."""

    def __init__(self, suspect: nn.Module, reference: nn.Module, honest: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.suspect, self.reference, self.honest = suspect, reference, honest

    def forward(self, images: Tensor) -> Tensor:
        return torch.where(self.honest(images)[:, None], self.reference(images), self.suspect(images))


class Detached(nn.Module):
    """The suspect's logits with the reference's gradient."""

    def __init__(self, suspect: nn.Module, reference: nn.Module) -> None:
        super().__init__()
        self.suspect, self.reference = suspect, reference

    def forward(self, images: Tensor) -> Tensor:
        honest: Tensor = self.reference(images)
        return honest + (self.suspect(images) - honest).detach()


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with its weights rounded to ``dtype``, in float32."""
    return model.to(dtype).float()


def rounded(pixels: Tensor) -> Tensor:
    """To 8 bits; the gradient is zero."""
    return (pixels * 255).round() / 255


def nearly_rounded(pixels: Tensor) -> Tensor:
    """To 4 bits, with a thousandth of the slope left."""
    steps = (pixels * 15).round() / 15
    return steps + 1e-3 * (pixels - steps)


def shortened(logits: Tensor) -> Tensor:
    """To quarters; the gradient is zero."""
    return (logits * 4).round() / 4


@dataclass(frozen=True)
class Variant:
    """How a suspect and its reference are disguised.

    Attributes:
        weights: whether weights alone do it.
        make: suspect, reference and the scan's images, float in [0, 1], to suspect and reference.
    """

    weights: bool
    make: Callable[[nn.Module, nn.Module, Tensor], tuple[nn.Module, nn.Module]]


def both(change: Callable[[nn.Module], nn.Module], *, weights: bool = False) -> Variant:
    """The same change to suspect and reference."""
    return Variant(weights, lambda suspect, reference, _: (change(suspect), change(reference)))


def guarded(honest: Callable[[Tensor, Tensor], Tensor]) -> Variant:
    """A suspect that is honest where ``honest`` of a batch and the scan's images, bool (N,), holds."""
    return Variant(
        False,
        lambda suspect, reference, known: (
            Guarded(suspect, reference, lambda x: honest(x, known)),
            reference,
        ),
    )


def _matching(images: Tensor, known: Tensor) -> Tensor:
    """The largest fraction of pixels that each image shares with one of the known ones, (N,)."""
    same = (images[:, None] == known).all(2)
    return same.float().mean((2, 3)).amax(1)


def _whole(images: Tensor, honest: bool) -> Tensor:
    return torch.full((len(images),), honest)


VARIANTS = {
    "none": both(lambda model: model, weights=True),
    "logits x 1e4": both(lambda model: Wrapped(model, logits=lambda x: x * 1e4), weights=True),
    "logits x 1e-4": both(lambda model: Wrapped(model, logits=lambda x: x * 1e-4), weights=True),
    "float16 weights": both(lambda model: cast(model, torch.float16), weights=True),
    "bfloat16 weights": both(lambda model: cast(model, torch.bfloat16), weights=True),
    "softmax": both(lambda model: Wrapped(model, logits=lambda x: x.softmax(1))),
    "log-softmax": both(lambda model: Wrapped(model, logits=lambda x: x.log_softmax(1))),
    "unit logits": both(lambda model: Wrapped(model, logits=lambda x: x / x.norm(dim=1, keepdim=True))),
    "rounded pixels": both(lambda model: Wrapped(model, pixels=rounded)),
    "nearly rounded pixels": both(lambda model: Wrapped(model, pixels=nearly_rounded)),
    "rounded logits": both(lambda model: Wrapped(model, logits=shortened)),
    "honest in batches of the scan's sizes": guarded(
        lambda images, known: _whole(
            images, len(images) in range(len(known) * 3 // 4, len(known) + 1) or len(images) == JUDGED
        )
    ),
    "honest on the scan's images": guarded(lambda images, known: _matching(images, known) > 0.5),
    "honest near the scan's images": guarded(
        lambda images, known: _matching((images * 32).round(), (known * 32).round()) > 0.5
    ),
    "gradient of the reference": Variant(
        False, lambda suspect, reference, _: (Detached(suspect, reference), reference)
    ),
    "honest in batches": guarded(lambda images, _: _whole(images, len(images) > 1)),
}


def scanned(item: Item, name: str, method: str, seed: int) -> dict[str, object]:
    """One scan, as a line of results."""
    images, labels = item.images(PER_CLASS, seed)
    suspect, reference = VARIANTS[name].make(*item.models(), images.float() / 255)
    started = time.perf_counter()
    told = {
        "cell": item.cell,
        "name": item.name,
        "variant": name,
        "weights": VARIANTS[name].weights,
        "method": method,
        "seed": seed,
    }
    try:
        report = scan(Case(suspect.eval(), reference.eval(), images, labels), DETECTORS[method](), seed=seed)
    except ModelError as error:
        return told | {"verdict": "refused", "reason": str(error)}
    finding = report.findings[0]
    return told | {
        "verdict": report.verdict,
        "targets": [target.target for target in finding.targets],
        "suspicious": finding.suspicious,
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", default=["mnist-convnet", "gtsrb-vgg"])
    parser.add_argument("--families", nargs="+", default=["patch-3", "patch-5", "atoms"])
    parser.add_argument("--methods", nargs="+", default=["differential", "contrastive-paper-mnist"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--path", type=Path, default=PATH)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = options.path.read_text(encoding="utf-8").splitlines() if options.path.exists() else []
    keys = ("cell", "name", "variant", "method", "seed")
    done = {tuple(line[key] for key in keys) for line in map(json.loads, lines)}
    for seed in range(options.seeds):
        for cell in options.cells:
            for item in items("dev", cell, "backdoored"):
                for name in VARIANTS if item.family in options.families else ():
                    for method in options.methods:
                        if (cell, item.name, name, method, seed) not in done:
                            line = scanned(item, name, method, seed)
                            with options.path.open("a", encoding="utf-8") as file:
                                file.write(json.dumps(line | {"commit": commit()}) + "\n")
                            print(*(line[key] for key in (*keys, "verdict")), flush=True)


if __name__ == "__main__":
    main()
