"""Commands of fedmend on hostile files: what is intact is made once, and each trial replaces one file of it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hostile_data import hostile_classes, hostile_data
from hostile_models import hostile_model
from mutations import changed_bytes, changed_json, changed_toml
from torch import Tensor, nn

_CODE = '''
import torch
from torch import nn

from fedmend.detection.base import Finding, Need, Target
from fedmend.triggers import Patch


def make():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)
    )


class Quick:
    """A detector that takes no time."""

    needs = frozenset({Need.IMAGES})

    def __call__(self, case, rng, progress):
        largest = float(case.suspect_logits.softmax(1).mean(0).max())
        verdict = "backdoored" if largest > 0.5 else "clean"
        mask = torch.zeros(1, 8, 8)
        mask[0, :2, :2] = 1
        target = Target(1, success=largest, trigger=Patch(mask, torch.ones(1, 8, 8)))
        return Finding("quick", verdict, "As it is.", suspicious=largest, limit=0.5, targets=(target,))
'''

_SETTINGS = """\
seed = 1
[data]
source = "images.npz"
partition = "dirichlet"
alpha = 1.0
[model]
architecture = "tiny:make"
[training]
optimizer = "sgd"
lr = 0.05
momentum = 0.9
batch_size = 16
epochs = 1
images_per_epoch = 32
[federation]
clients = 4
clients_per_round = 2
rounds = 1
[aggregation]
kind = "uniform"
[[attack]]
attackers = 1
first_round = 1
[attack.trigger]
kind = "box"
[attack.goal]
kind = "all-to-one"
target = 1
[[attack.update]]
kind = "amplify"
factor = 2.0
"""

Command = Callable[[list[str]], int]


@dataclass(frozen=True)
class Trial:
    """A command to run in a folder, and what it is given there."""

    kind: str
    arguments: tuple[str, ...]


def make_intact(folder: Path, command: Command) -> None:
    """Fill a folder with intact files: two models in four formats, images, settings, results of a run and a scan.

    ``command`` runs fedmend in that folder; it returns the exit code.
    """
    (folder / "tiny.py").write_text(_CODE, encoding="utf-8")
    (folder / "settings.toml").write_text(_SETTINGS, encoding="utf-8")
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 4
    images = (torch.rand(80, 1, 8, 8, generator=rng) * 120).to(torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 120
    np.savez(folder / "images.npz", images=images.numpy(), labels=labels.numpy(), class_names=list("abcd"))
    suspect, reference = (_trained(images, labels, seed) for seed in (1, 2))
    _save(suspect, folder / "models")
    _save(reference, folder / "reference")
    for words in (_scan("models/weights.pt"), ["simulate", "settings.toml", "--out", "run"]):
        if command(words) not in (0, 1, 3):
            raise RuntimeError(f"fedmend {' '.join(words)} failed on intact files")


def _trained(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    names: dict[str, Callable[[], nn.Module]] = {}
    exec(_CODE, names)
    torch.manual_seed(seed)
    model = names["make"]()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(images / 255), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def _save(model: nn.Module, folder: Path) -> None:
    from fedmend.checkpoints import save_state

    folder.mkdir()
    state = model.state_dict()
    torch.save(state, folder / "weights.pt")
    torch.save({"state_dict": state, "epoch": 3}, folder / "old.pt", _use_new_zipfile_serialization=False)
    np.savez(folder / "weights.npz", *(value.numpy() for value in state.values()))
    save_state(state, folder / "weights.safetensors")


def _scan(suspect: str, **changes: str) -> list[str]:
    options = {
        "reference": "reference/weights.safetensors",
        "model": "tiny:make",
        "data": "images.npz",
        "method": "tiny:Quick",
        "seed": "0",
        "out": "scan",
    } | changes
    return ["scan", suspect, *(word for name, value in options.items() for word in (f"--{name}", value))]


def make_trial(seed: str, intact: Path, folder: Path) -> Trial:
    """Copy the intact files to ``folder``, put a hostile one among them, and choose a command that reads it."""
    rng = random.Random(seed)
    shutil.copytree(intact, folder)
    makers = (_model, _model, _model, _model, _data, _data, _settings, _report, _report, _run)
    return rng.choice(makers)(rng, folder)


def _model(rng: random.Random, folder: Path) -> Trial:
    content, suffix = hostile_model(rng, sorted((folder / "models").iterdir()))
    path = folder / f"hostile{suffix}"
    path.write_bytes(content)
    if rng.random() < 0.2:
        return Trial("model", tuple(_scan("models/weights.pt", reference=path.name, out="new")))
    return Trial("model", tuple(_scan(path.name, out="new")))


def _data(rng: random.Random, folder: Path) -> Trial:
    if rng.random() < 0.15:
        classes = hostile_classes(rng, folder / "classes.txt")
        return Trial("data", tuple(_scan("models/weights.pt", classes=classes.name, out="new")))
    (folder / "hostile").mkdir()
    path = hostile_data(rng, folder / "images.npz", folder / "hostile")
    return Trial("data", tuple(_scan("models/weights.pt", data=str(path.relative_to(folder)), out="new")))


def _settings(rng: random.Random, folder: Path) -> Trial:
    """The folder already holds a run, so that nothing is trained for long."""
    path = folder / "hostile.toml"
    content = changed_toml(rng, (folder / "settings.toml").read_text(encoding="utf-8"))
    path.write_bytes(changed_bytes(rng, content) if rng.random() < 0.2 else content)
    return Trial("settings", ("simulate", path.name, "--out", "run", "--workers", "1"))


def _report(rng: random.Random, folder: Path) -> Trial:
    results = rng.choice(
        (("scan", "scan.json"), ("scan", "scan.json"), ("run", "rounds.jsonl"), ("run", "config.json"))
    )
    path = folder.joinpath(*results)
    _change(rng, path)
    if path.name == "scan.json" and rng.random() < 0.2:
        tensors = path.with_suffix(".safetensors")
        tensors.write_bytes(changed_bytes(rng, tensors.read_bytes()))
    if path.name == "scan.json" and rng.random() < 0.3:
        return Trial("report", ("scan", "--again", "scan/scan.json", "--out", "new"))
    return Trial("report", ("report", path.parent.name))


def _run(rng: random.Random, folder: Path) -> Trial:
    """One file of a run is changed, and the run goes on, is repaired or shown."""
    files = [
        path for path in sorted((folder / "run").rglob("*")) if path.is_file() and path.suffix != ".html"
    ]
    path = rng.choice([each for each in files if each.stat().st_size])
    _change(rng, path)
    commands = (
        (
            "simulate",
            "settings.toml",
            "--resume",
            "--out",
            "run",
            "--set",
            "federation.rounds=2",
            "--workers",
            "1",
        ),
        ("repair", "run", "--method", "prune", "--workers", "1", "--rounds", "0", "--out", "new.safetensors"),
        ("report", "run"),
    )
    return Trial("run", rng.choice(commands))


def _change(rng: random.Random, path: Path) -> None:
    """Change a file of JSON, of lines of JSON, or of bytes."""
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.8:
        path.write_bytes(changed_json(rng, content))
    elif path.suffix == ".jsonl" and rng.random() < 0.8:
        lines = content.splitlines()
        place = rng.randrange(len(lines))
        if isinstance(json.loads(lines[place]), dict):
            lines[place] = changed_json(rng, lines[place])
        path.write_bytes(b"\n".join(lines))
    else:
        path.write_bytes(changed_bytes(rng, content))
