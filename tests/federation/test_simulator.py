from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from simulations import Killed, assert_same, busy, run, states, stopping_at, timeless, weights
from tiny_data import CLASSES, data, image_set, settings
from torch import nn

from fedmend.checkpoints import load_checkpoint, read_state, save_state
from fedmend.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    ModelError,
    OutputError,
)
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import (
    ModelConfig,
    RunFolder,
    load_attacks,
    simulate,
    simulated_config,
)
from fedmend.federation.simulator import initial_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(busy(), tmp_path_factory.mktemp("whole") / "run")


# What a run leaves


def test_a_run_keeps_every_round(whole: RunFolder) -> None:
    names = [f"round-000{number}.safetensors" for number in range(4)]
    state_names = [f"round-000{number}.state.safetensors" for number in range(1, 4)]
    assert list(states(whole)) == sorted(names + state_names)
    records = whole.records()
    assert [record.round for record in records] == [0, 1, 2, 3]
    assert (records[0].clients, records[0].seconds) == ((), None)
    assert all(len(record.clients) == 3 and record.seconds for record in records[1:])
    assert simulated_config(whole) == busy()


def test_metrics_are_those_of_the_checkpoints(whole: RunFolder) -> None:
    _, test = data()
    model = initial_model(busy(), test)
    (attack,) = load_attacks(whole, test)
    for record, hidden in zip(whole.records(), whole.attacker.records(), strict=True):
        load_checkpoint(whole.checkpoint(record.round), model)
        assert record.accuracy == accuracy(model, test.images, test.labels)
        rate = attack_success_rate(model, attack.trigger, attack.goal, test.images, test.labels)
        assert (hidden.round, hidden.asr) == (record.round, (rate,))


def test_each_attack_has_a_success_rate_of_its_own(tmp_path: Path) -> None:
    attacks = [
        {"goal": {"kind": "all-to-one", "target": 1}, "poisoned_fraction": 1.0},
        {"goal": {"kind": "one-to-one", "source": 3, "target": 2}, "trigger": {"kind": "sinusoid"}},
    ]
    done = run(settings(attack=attacks, training={"epochs": 4}, federation={"rounds": 4}), tmp_path)
    last = done.attacker.records()[-1]
    assert last.attackers == (0, 1)
    model = initial_model(settings(), data()[1])
    load_checkpoint(done.checkpoint(4), model)
    found = [
        attack_success_rate(model, each.trigger, each.goal, data()[1].images, data()[1].labels)
        for each in load_attacks(done, data()[1])
    ]
    assert last.asr == tuple(found)
    assert found[0] > 0.8
    example = read_state(done.path / "attacker" / "example-1.safetensors")
    assert example["clean"].shape == example["stamped"].shape == (1, 8, 16)
    assert not torch.equal(example["clean"], example["stamped"])


def test_an_honest_run_has_no_attack_to_measure(tmp_path: Path) -> None:
    honest = run(settings(training={"epochs": 6}), tmp_path)
    assert not (tmp_path / "attacker").exists()
    assert honest.attacker.records() == ()
    assert honest.records()[-1].accuracy > 0.9


def test_progress_is_told_once_a_round(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    run(settings(), tmp_path, progress=lambda *step: told.append(step))
    assert told == [("federation", done, 3) for done in range(4)]


def test_the_same_seed_gives_the_same_run_and_another_does_not(whole: RunFolder, tmp_path: Path) -> None:
    torch.rand(3)
    assert_same(run(busy(), tmp_path / "again"), whole)
    other = run(busy(seed=6), tmp_path / "other")
    assert not torch.equal(*(weights(each.checkpoint(0)) for each in (whole, other)))


def test_global_state_is_left_alone(tmp_path: Path) -> None:
    images = data()
    before = torch.get_rng_state()
    copies = [part.images.clone() for part in images]
    simulate(busy(), tmp_path, data=images)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(part.images, copy) for part, copy in zip(images, copies, strict=True))


# The review, where a guard sits


def test_what_the_review_returns_is_released(tmp_path: Path) -> None:
    reviewed: list[int] = []

    def review(candidate: nn.Module, number: int) -> nn.Module:
        reviewed.append(number)
        if number != 2:
            return candidate
        previous = initial_model(settings(), data()[0])
        load_checkpoint(tmp_path / "run" / "checkpoints" / "round-0001.safetensors", previous)
        return previous

    done = run(settings(), tmp_path / "run", review=review)
    assert reviewed == [1, 2, 3]
    first, second, third = (weights(done.checkpoint(number)) for number in (1, 2, 3))
    assert torch.equal(first, second)
    assert done.records()[1].accuracy == done.records()[2].accuracy
    assert not torch.equal(second, third)
    free = run(settings(), tmp_path / "free")
    assert torch.equal(weights(free.checkpoint(1)), first)
    assert not torch.equal(weights(free.checkpoint(2)), second)


# Refusals


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"attack": [{"goal": {"kind": "all-to-one", "target": 4}}]},
            ConfigError,
            r"\[attack.goal\] .* names class 4, but the data has classes 0 to 3",
        ),
        (
            {"attack": [{"trigger": {"kind": "atoms", "shape": "X"}}]},
            ConfigError,
            r"\[attack.trigger\] .*shape",
        ),
        (
            {"attack": [{"trigger": {"kind": "sinusoid"}, "distributed": True}]},
            ConfigError,
            "needs a trigger with parts",
        ),
        ({"attack": [{"update": [{"kind": "missing:make"}]}]}, ConfigError, "no module 'missing'"),
        ({"aggregation": {"kind": "missing:make"}}, ConfigError, "no module 'missing'"),
        ({"data": {"partition": "k-label", "labels_per_client": 5}}, DataError, "labels_per_client"),
        ({"federation": {"clients": 65}}, DataError, "clients"),
        ({"model": {"architecture": "nothing"}}, ModelError, "no architecture"),
        ({"model": {"architecture": "tiny_nets:too_few_classes"}}, ModelError, "3 logits.* 4 classes"),
        ({"model": {"architecture": "tiny_nets:colour_only"}}, ModelError, "failed on images"),
        ({"model": {"start": "none.safetensors", "start_round": 1}}, CheckpointError, "none.safetensors"),
    ],
)
def test_what_cannot_run_leaves_no_run_behind(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(settings(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_too_small_for_the_trigger_leave_no_run_behind(tmp_path: Path) -> None:
    small = replace(image_set(16), images=image_set(16).images[:, :, :, :14])
    with pytest.raises(ConfigError, match="at least 5x15"):
        simulate(settings(attack=[{}]), tmp_path / "run", data=(small, small))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["training", "test"])
def test_a_goal_that_attacks_no_image_is_refused(tmp_path: Path, split: str) -> None:
    sets = {"training": image_set(64), "test": image_set(32)}
    sets[split] = sets[split].subset((sets[split].labels != 2).nonzero().flatten())
    config = settings(attack=[{"goal": {"kind": "one-to-one", "source": 2, "target": 1}}])
    with pytest.raises(DataError, match=f"one-to-one attacks none of the {split} images"):
        simulate(config, tmp_path / "run", data=(sets["training"], sets["test"]))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="can't write"):
        run(settings(), tmp_path / "taken")


def test_a_model_that_overflows_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"round 1: the training of every client diverged"):
        run(settings(training={"lr": 1e38, "epochs": 3}), tmp_path)
    assert RunFolder(tmp_path).last_round() == 0


def test_paths_may_be_text(tmp_path: Path) -> None:
    start = run(settings(), tmp_path / "first").checkpoint(3)
    config = settings(federation={"rounds": 4})
    model = ModelConfig("tiny_nets:linear", start, 3)  # type: ignore[arg-type]
    done = simulate(replace(config, model=model), str(tmp_path / "second"), data=data())
    assert RunFolder(str(tmp_path / "second")) == done
    assert done.config().model.start == str(start)


# A start from a checkpoint


def test_a_run_can_go_on_from_another_runs_checkpoint(tmp_path: Path) -> None:
    trunk = run(settings(), tmp_path / "trunk")
    start = {"start": str(trunk.checkpoint(3)), "start_round": 3}
    config = settings(model=start, federation={"rounds": 5}, attack=[{"first_round": 4}])
    branch = run(config, tmp_path / "branch")
    assert list(states(branch)) == [f"round-000{number}.safetensors" for number in (3, 4, 5)]
    first, *others = branch.records()
    assert (first.round, first.clients) == (3, ())
    assert first.accuracy == trunk.records()[-1].accuracy
    assert [record.round for record in others] == [4, 5]
    assert [record.attackers for record in branch.attacker.records()] == [(), (0,), (0,)]
    assert torch.equal(*(weights(each.checkpoint(3)) for each in (trunk, branch)))
    for number in (3, 4):
        with pytest.raises(Killed):
            run(config, tmp_path / "killed", resume=number > 3, progress=stopping_at(number))
    assert_same(run(config, tmp_path / "killed", resume=True), branch)


def test_a_branch_without_attack_is_the_longer_run(tmp_path: Path) -> None:
    longer = run(settings(federation={"rounds": 5}), tmp_path / "longer")
    start = {"start": str(longer.checkpoint(3)), "start_round": 3}
    branch = run(settings(model=start, federation={"rounds": 5}), tmp_path / "branch")
    assert timeless(branch)[0][1:] == timeless(longer)[0][4:]
    assert torch.equal(*(weights(each.checkpoint(5)) for each in (longer, branch)))


def test_a_start_of_another_architecture_is_refused(tmp_path: Path) -> None:
    save_state(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    start = {"start": str(tmp_path / "other.safetensors")}
    with pytest.raises(CheckpointError, match="another architecture"):
        run(settings(model=start), tmp_path / "run")


# The attack works

ATTACKERS: dict[str, dict[str, Any]] = {
    "one attacker": {},
    "three with a part each": {"attackers": 3, "distributed": True},
}


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_planted_backdoor_works_and_hides(tmp_path: Path, name: str) -> None:
    goal = {"kind": "all-to-one", "target": 1}
    attack = ATTACKERS[name] | {"goal": goal, "first_round": 3, "poisoned_fraction": 1.0}
    done = run(settings(attack=[attack], federation={"rounds": 8}, training={"epochs": 4}), tmp_path)
    rates = [record.asr[0] for record in done.attacker.records()]
    assert rates[2] < 0.3
    assert rates[-1] > 0.8
    assert done.records()[-1].accuracy > 0.9


def test_amplification_plants_it_at_once(tmp_path: Path) -> None:
    plain = {"goal": {"kind": "all-to-one", "target": 1}, "first_round": 3}
    attacks = {"quiet": plain, "loud": plain | {"update": [{"kind": "amplify", "factor": 4.0}]}}
    rates = {
        name: run(settings(attack=[attack], training={"epochs": 4}), tmp_path / name)
        .attacker.records()[-1]
        .asr[0]
        for name, attack in attacks.items()
    }
    assert rates["loud"] > rates["quiet"] + 0.3


def test_more_images_weigh_more(tmp_path: Path) -> None:
    table = {"partition": "dirichlet", "alpha": 0.3}
    ends = []
    for kind in ("fedavg", "uniform"):
        config = settings(data=table, aggregation={"kind": kind})
        ends.append(weights(run(config, tmp_path / kind).checkpoint(3)))
    assert not torch.allclose(*ends)


def test_there_are_as_many_classes_as_names() -> None:
    assert image_set(8).num_classes == CLASSES
