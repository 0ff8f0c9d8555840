"""What runs on a CPU runs on a GPU as well, and comes to the same verdict."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import planted
from fedmend.checkpoints import save_state
from fedmend.cli import main
from fedmend.data import ImageSet
from fedmend.detection import DETECTORS, Case, scan
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import (
    DataConfig,
    Execution,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
    simulate,
)
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.repairs import REPAIRS, HoldOutGate, repair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(world: planted.World, suspect: nn.Module) -> Case:
    return Case(deepcopy(suspect).cuda(), deepcopy(world.reference).cuda(), world.images, world.labels)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_comes_to_the_verdict_of_the_cpu(world: planted.World, name: str) -> None:
    for suspect in (world.clean, world.backdoored):
        detector = DETECTORS[name]()
        cpu = scan(Case(suspect, world.reference, world.images, world.labels), detector, seed=0)
        gpu = scan(on_gpu(world, suspect), detector, seed=0)
        assert gpu.device.startswith("cuda")
        assert gpu.verdict == cpu.verdict
        if cpu.verdict == "backdoored" and not name.startswith(
            "contrastive-paper"
        ):  # its target is a toss-up
            assert [each.target for each in gpu.findings[0].targets] == [planted.TARGET]


def test_unlearning_repairs_there(world: planted.World) -> None:
    case = on_gpu(world, world.backdoored)
    found = scan(case, seed=0)
    repaired, report = repair(case, found, REPAIRS["unlearn"], HoldOutGate(), seed=0)
    assert report.outcome == "repaired"
    assert repaired is not None
    images, labels = planted.draw(200, seed=9)
    assert accuracy(repaired, images, labels) > 0.9
    assert attack_success_rate(repaired, planted.patch(), AllToOne(planted.TARGET), images, labels) < 0.1


def test_a_federation_trains_there(tmp_path: Path) -> None:
    images, labels = planted.draw(400, seed=0)
    data = ImageSet(images, labels, planted.NAMES)
    config = SimulationConfig(
        data=DataConfig(source="unused"),
        model=ModelConfig(architecture=planted.ARCHITECTURE),
        training=LocalTraining(epochs=2, lr=0.01),
        federation=FederationConfig(clients=4, clients_per_round=4, rounds=3),
    )
    run = simulate(config, tmp_path, data=(data, data), execution=Execution(device="cuda"))
    assert run.last_round() == 3


def test_the_command_line_takes_the_gpu_by_itself(
    world: planted.World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("reference", "backdoored"):
        save_state(getattr(world, name).state_dict(), tmp_path / f"{name}.safetensors")
    np.savez(tmp_path / "images.npz", images=world.images.numpy(), labels=world.labels.numpy())
    suspect, reference, images = (
        str(tmp_path / name) for name in ("backdoored.safetensors", "reference.safetensors", "images.npz")
    )
    options = ["--reference", reference, "--model", planted.ARCHITECTURE, "--data", images, "--seed", "0"]
    with pytest.raises(SystemExit) as stop:
        main(["scan", suspect, *options, "--out", str(tmp_path / "out"), "--json"])
    assert stop.value.code == 1
    assert '"device": "cuda' in capsys.readouterr().out
