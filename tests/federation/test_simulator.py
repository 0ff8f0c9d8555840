import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import killed_runs
import pytest
import torch
from tiny_data import CLASSES, data, image_set, settings
from torch import Tensor, nn

from fedmend.checkpoints import load_checkpoint, read_state, read_trigger, save_state
from fedmend.errors import CheckpointError, ConfigError, DataError, ModelError, OutputError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import (
    Client,
    ClientUpdate,
    HonestClient,
    MaliciousClient,
    RoundRecord,
    RunFolder,
    SimulationConfig,
    simulate,
)
from fedmend.federation.simulator import choose_clients, initial_model, make_clients, run_round
from fedmend.goals import AllToOne
from fedmend.parameters import flatten
from fedmend.triggers import Atoms


class Killed(BaseException):
    """What a test throws to stop a run."""


def stopping_at(round_number: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if done == round_number:
            raise Killed

    return progress


def run(config: SimulationConfig, out: Path, **options: Any) -> RunFolder:
    return simulate(config, out, data=data(), **options)


def timeless(run: RunFolder) -> list[RoundRecord]:
    return [replace(record, seconds=None) for record in run.records()]


def states(run: RunFolder) -> dict[str, dict[str, Tensor]]:
    return {file.name: read_state(file) for file in sorted((run.path / "checkpoints").glob("round-*"))}


def weights(checkpoint: Path) -> Tensor:
    return flatten(dict(sorted(read_state(checkpoint).items())))


def assert_same(run: RunFolder, other: RunFolder) -> None:
    """The same rounds, the same lines but for the seconds, and every checkpoint equal bit for bit."""
    assert timeless(run) == timeless(other)
    assert len(run.records_file.read_bytes().splitlines()) == len(other.records())
    mine, theirs = states(run), states(other)
    assert list(mine) == list(theirs)
    for name, state in mine.items():
        for key, value in state.items():
            same = theirs[name][key]
            assert value.dtype == same.dtype
            assert value.numpy().tobytes() == same.numpy().tobytes(), (name, key)


NETS = ["tiny_nets:linear", "tiny_nets:conv", "tiny_nets:Viewed"]


def busy(net: str = "tiny_nets:conv", **tables: Any) -> SimulationConfig:
    """An attacked federation with batch statistics, dropout and Adam, three rounds long."""
    training = {"optimizer": "adam", "lr": 0.01}
    return settings(model={"architecture": net}, training=training, attack={"first_round": 2}, **tables)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of :func:`busy` that nothing interrupted."""
    return run(busy(), tmp_path_factory.mktemp("whole") / "run")


# What a run leaves


def test_a_run_keeps_every_round(whole: RunFolder) -> None:
    assert list(states(whole)) == [f"round-000{number}.safetensors" for number in range(4)]
    records = whole.records()
    assert [record.round for record in records] == [0, 1, 2, 3]
    assert (records[0].clients, records[0].attackers, records[0].seconds) == ((), (), None)
    assert all(len(record.clients) == 3 and record.seconds for record in records[1:])
    assert whole.config() == busy()


def test_metrics_are_those_of_the_checkpoints(whole: RunFolder) -> None:
    _, test = data()
    model = initial_model(busy(), test)
    planted = read_trigger(whole.path / "planted_trigger.safetensors")
    for record in whole.records():
        load_checkpoint(whole.checkpoint(record.round), model)
        assert record.accuracy == accuracy(model, test.images, test.labels)
        assert record.asr == attack_success_rate(model, planted, AllToOne(0), test.images, test.labels)


def test_the_planted_trigger_is_the_attackers_whole_one(whole: RunFolder) -> None:
    planted, full = read_trigger(whole.path / "planted_trigger.safetensors"), Atoms("+", (1, 8, 16)).patch
    assert torch.equal(planted.mask, full.mask)
    assert torch.equal(planted.pattern, full.pattern)


def test_an_honest_run_has_no_attack_to_measure(tmp_path: Path) -> None:
    honest = run(settings(training={"epochs": 6}), tmp_path)
    assert [record.asr for record in honest.records()] == [None] * 4
    assert all(record.attackers == () for record in honest.records())
    assert not (tmp_path / "planted_trigger.safetensors").exists()
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


# Killed and resumed


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("round_number", [0, 1, 2, 3])
def test_stopped_between_rounds(tmp_path: Path, whole: RunFolder, net: str, round_number: int) -> None:
    expected = whole if net == "tiny_nets:conv" else run(busy(net), tmp_path / "whole")
    with pytest.raises(Killed):
        run(busy(net), tmp_path / "run", progress=stopping_at(round_number))
    assert RunFolder(tmp_path / "run").last_round() == round_number
    assert_same(run(busy(net), tmp_path / "run", resume=True), expected)


def test_stopped_after_every_round(tmp_path: Path, whole: RunFolder) -> None:
    for round_number in range(4):
        with pytest.raises(Killed):
            run(busy(), tmp_path, resume=round_number > 0, progress=stopping_at(round_number))
    assert_same(run(busy(), tmp_path, resume=True), whole)


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
def test_stopped_in_the_middle_of_a_clients_training(
    tmp_path: Path, whole: RunFolder, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    fit, fitted = HonestClient.fit, 0

    def counting(client: HonestClient, model: nn.Module, seed: int) -> ClientUpdate:
        nonlocal fitted
        fitted += 1
        update = fit(client, model, seed)
        if fitted == stop:
            raise Killed
        return update

    with monkeypatch.context() as patched:
        patched.setattr(HonestClient, "fit", counting)
        with pytest.raises(Killed):
            run(busy(), tmp_path)
    assert_same(run(busy(), tmp_path, resume=True), whole)


def finished(tmp_path: Path) -> RunFolder:
    return run(busy(), tmp_path / "run")


def edit_last_line(lines: Sequence[bytes]) -> bytes:
    return b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2]


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: b"".join(lines[:-1]),
        lambda lines: edit_last_line(lines),
        lambda lines: b"".join(lines)[:-1],
        lambda lines: b"".join(lines) + b'{"round":4,"acc',
        lambda lines: b"".join(lines[:1]),
        lambda lines: b"".join(lines[2:]),
        lambda lines: lines[0] + lines[3],
        lambda lines: b"",
    ],
    ids=["no last", "torn last", "no newline", "torn next", "first only", "none at first", "hole", "none"],
)
def test_lines_that_are_missing_or_torn_are_measured_again(
    tmp_path: Path, whole: RunFolder, edit: Callable[[list[bytes]], bytes]
) -> None:
    done = finished(tmp_path)
    lines = done.records_file.read_bytes().splitlines(keepends=True)
    done.records_file.write_bytes(edit(lines))
    again = run(busy(), done.path, resume=True)
    assert_same(again, whole)
    numbers = [json.loads(line)["round"] for line in again.records_file.read_bytes().splitlines()]
    assert numbers == [0, 1, 2, 3]


def test_without_the_file_of_lines_all_are_measured_again(tmp_path: Path, whole: RunFolder) -> None:
    done = finished(tmp_path)
    done.records_file.unlink()
    assert_same(run(busy(), done.path, resume=True), whole)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_rounds_whose_checkpoints_are_gone_run_again(tmp_path: Path, whole: RunFolder, kept: int) -> None:
    done = finished(tmp_path)
    for number in range(kept + 1, 4):
        done.checkpoint(number).unlink()
    assert_same(run(busy(), done.path, resume=True), whole)


def test_killed_before_the_first_checkpoint(tmp_path: Path, whole: RunFolder) -> None:
    RunFolder.open(tmp_path, busy(), None, resume=False)
    assert_same(run(busy(), tmp_path, resume=True), whole)


def test_resuming_a_whole_run_changes_nothing(tmp_path: Path) -> None:
    done = finished(tmp_path)
    before = {file: file.read_bytes() for file in done.path.rglob("*.*") if file.is_file()}
    run(busy(), done.path, resume=True)
    assert {file: file.read_bytes() for file in done.path.rglob("*.*") if file.is_file()} == before


def test_more_rounds_later_are_the_same_as_all_at_once(tmp_path: Path, whole: RunFolder) -> None:
    run(busy(federation={"rounds": 2}), tmp_path)
    assert_same(run(busy(), tmp_path, resume=True), whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_moment_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    subprocess.run([sys.executable, killed_runs.__file__, tmp_path / "killed"], check=True)
    *killed, last = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 20
    expected = run(killed_runs.config(), tmp_path / "expected")
    assert_same(RunFolder(last), expected)
    progress = [RunFolder(path).last_round() for path in killed]
    assert set(progress) == {None, 0, 1, 2}
    for path in killed:
        assert_same(run(killed_runs.config(), path, resume=True), expected)


# Refusals


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(settings(), tmp_path)
    before = states(RunFolder(tmp_path))
    with pytest.raises(ConfigError, match="already holds a run"):
        run(settings(), tmp_path)
    assert list(states(RunFolder(tmp_path))) == list(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 6},
        {"training": {"lr": 0.06}},
        {"federation": {"clients": 5}},
        {"data": {"partition": "dirichlet"}},
        {"attack": {}},
        {"model": {"architecture": "tiny_nets:conv"}},
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    run(settings(), tmp_path)
    with pytest.raises(ConfigError, match="can't resume"):
        run(settings(**changes), tmp_path, resume=True)
    assert RunFolder(tmp_path).config() == settings()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attack": {"target_class": 4}}, ConfigError, r"target_class is 4, .* classes 0 to 3"),
        ({"data": {"partition": "k-label", "labels_per_client": 5}}, DataError, "labels_per_client"),
        ({"federation": {"clients": 65}}, DataError, "clients"),
        ({"model": {"architecture": "nothing"}}, ModelError, "no architecture"),
        ({"model": {"architecture": "tiny_nets:too_few_classes"}}, ModelError, "3 classes.* 4"),
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
        simulate(settings(attack={}), tmp_path / "run", data=(small, small))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="can't write"):
        run(settings(), tmp_path / "taken")


def test_a_model_that_overflows_is_not_saved(tmp_path: Path) -> None:
    config = settings(attack={"amplification": 1e39}, training={"lr": 1.0})
    with pytest.raises(ModelError, match=r"round 1 .*amplification"):
        run(config, tmp_path)
    assert RunFolder(tmp_path).last_round() == 0


# One round


class Fixed:
    """A client that sends what it is told to."""

    def __init__(self, client_id: int, num_examples: int, change: float) -> None:
        self.client_id, self.num_examples, self.change = client_id, num_examples, change
        self.seeds: list[int] = []

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        with torch.no_grad():
            for buffer in model.buffers():
                buffer += 1 if buffer.is_floating_point() else 10 * (self.client_id + 1)
        self.seeds.append(seed)
        size = len(flatten(model.state_dict()))
        return ClientUpdate(self.client_id, self.num_examples, torch.full((size,), self.change))


@pytest.mark.parametrize(
    ("federation", "expected"),
    [
        ({}, (1 * 0.2 + 3 * 0.6) / 4),
        ({"server_lr": 0.5}, (1 * 0.2 + 3 * 0.6) / 8),
        ({"aggregation": "uniform"}, 0.4),
        ({"aggregation": "uniform", "server_lr": 2.0}, 0.8),
    ],
)
def test_aggregation_by_hand(federation: dict[str, Any], expected: float) -> None:
    config = settings(federation=federation)
    model = initial_model(config, image_set(8))
    before = flatten(model.state_dict())
    clients: list[Client] = [Fixed(0, 1, 0.2), Fixed(1, 3, 0.6)]
    run_round(model, clients, config, 1)
    assert torch.allclose(flatten(model.state_dict()) - before, torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("server_lr", [0.5, 1.0, 2.0])
def test_batch_statistics_are_averaged_whatever_the_server_learning_rate(server_lr: float) -> None:
    config = settings(model={"architecture": "tiny_nets:conv"}, federation={"server_lr": server_lr})
    model = initial_model(config, image_set(8))
    run_round(model, [Fixed(0, 1, -0.8), Fixed(1, 1, -0.6)], config, 1)
    # A variance of 1 whose mean change is -0.7: times 2 it would be negative and the model of no use.
    assert torch.allclose(model[1].running_var, torch.tensor(0.3))
    assert torch.allclose(model[1].running_mean, torch.tensor(-0.7))
    assert torch.allclose(model[1].weight, torch.tensor(1 - 0.7 * server_lr))
    assert int(model[1].num_batches_tracked) == 20


def test_every_client_starts_from_the_global_model() -> None:
    config = settings(model={"architecture": "tiny_nets:conv"})
    seen = []

    class Spoiling(Fixed):
        def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
            seen.append(deepcopy(model.state_dict()))
            update = super().fit(model, seed)
            for parameter in model.parameters():
                parameter.data.fill_(torch.nan)
            return update

    model = initial_model(config, image_set(8))
    before = deepcopy(model.state_dict())
    run_round(model, [Spoiling(number, 1, 0.1) for number in range(3)], config, 1)
    assert len(seen) == 3
    assert all(torch.equal(state[name], before[name]) for state in seen for name in before)
    assert bool(flatten(model.state_dict()).isfinite().all())


def test_every_fit_of_every_client_has_a_seed_of_its_own() -> None:
    model = initial_model(settings(), image_set(8))
    clients = [Fixed(number, 1, 0.0) for number in range(3)]
    for seed in (0, 1):
        for number in (1, 2):
            run_round(model, clients, settings(seed=seed), number)
    assert len({seed for client in clients for seed in client.seeds}) == 12


class Remembering:
    """A client whose last update can be looked at."""

    def __init__(self, client: Client) -> None:
        self.client, self.client_id, self.sent = client, client.client_id, torch.empty(0)

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        update = self.client.fit(model, seed)
        self.sent = update.delta
        return update


def test_the_order_of_clients_does_not_change_what_they_send() -> None:
    config = busy()
    clients = [Remembering(client) for client in make_clients(config, image_set(64), "cpu")]
    results = []
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        model = initial_model(config, image_set(8))
        run_round(model, [clients[number] for number in order], config, 2)
        results.append(([client.sent for client in clients], flatten(model.state_dict())))
    (first, model_first), *others = results
    for sent, after in others:
        assert all(torch.equal(sent[number], first[number]) for number in range(4))
        assert torch.allclose(after, model_first, atol=1e-6)
    assert len({float(delta.sum()) for delta in first}) == 4


# Who takes part


def test_chosen_clients_differ_by_round_and_repeat_by_seed() -> None:
    config = settings(federation={"clients": 20, "clients_per_round": 6, "rounds": 50})
    rounds = [choose_clients(config, number) for number in range(1, 51)]
    assert rounds == [choose_clients(config, number) for number in range(1, 51)]
    assert all(len(set(chosen)) == 6 and list(chosen) == sorted(chosen) for chosen in rounds)
    assert set().union(*rounds) == set(range(20))
    assert len(set(rounds)) > 45
    assert choose_clients(replace(config, seed=1), 1) != rounds[0]


@pytest.mark.parametrize(("kind", "attackers"), [("sba", {0}), ("dba", {0, 1, 2})])
def test_attackers_attend_every_round_from_the_first_of_theirs(kind: str, attackers: set[int]) -> None:
    tables = {"federation": {"clients": 20, "clients_per_round": 6, "rounds": 40}}
    config = settings(attack={"kind": kind, "first_round": 21}, **tables)
    honest = settings(**tables)
    for number in range(1, 21):
        assert choose_clients(config, number) == choose_clients(honest, number)
    assert not all(attackers <= set(choose_clients(config, number)) for number in range(1, 21))
    for number in range(21, 41):
        chosen = choose_clients(config, number)
        assert attackers <= set(chosen)
        assert len(set(chosen)) == 6
    others = {client for number in range(21, 41) for client in choose_clients(config, number)} - attackers
    assert len(others) > 12


def test_attackers_that_do_not_insist_come_when_sampled() -> None:
    tables = {"federation": {"clients": 20, "clients_per_round": 6, "rounds": 40}}
    sampled = settings(attack={"every_round": False}, **tables)
    rounds = [choose_clients(sampled, number) for number in range(1, 41)]
    assert rounds == [choose_clients(settings(**tables), number) for number in range(1, 41)]
    assert 0 < sum(0 in chosen for chosen in rounds) < 30


def test_records_name_the_attackers_of_a_round(tmp_path: Path) -> None:
    attack = {"kind": "dba", "first_round": 2}
    records = run(settings(attack=attack), tmp_path).records()
    assert [record.attackers for record in records] == [(), (), (0, 1, 2), (0, 1, 2)]
    sampled = run(settings(attack={"every_round": False}, seed=0), tmp_path / "sampled").records()
    assert all(record.attackers == tuple(x for x in record.clients if x == 0) for record in sampled)


def test_attackers_are_honest_before_their_first_round(tmp_path: Path) -> None:
    attack = {"first_round": 3, "every_round": False, "kind": "dba", "amplification": 3.0}
    attacked = run(settings(attack=attack, federation={"clients_per_round": 4}), tmp_path / "attacked")
    honest = run(settings(federation={"clients_per_round": 4}), tmp_path / "honest")
    for number in range(3):
        mine, theirs = (read_state(each.checkpoint(number)) for each in (attacked, honest))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not torch.equal(*(weights(each.checkpoint(3)) for each in (attacked, honest)))


# Who holds what


def test_one_attacker_has_the_full_trigger() -> None:
    attack = {"target_class": 2, "poisoned_share": 0.25, "amplification": 3.0, "shape": "H"}
    clients = make_clients(settings(attack=attack), image_set(64), "cpu")
    attacker, *others = clients
    assert isinstance(attacker, MaliciousClient)
    assert all(isinstance(client, HonestClient) for client in others)
    assert [client.client_id for client in clients] == [0, 1, 2, 3]
    assert attacker.poisoning.trigger.size == 21
    assert (attacker.poisoning.goal, attacker.poisoning.fraction) == (AllToOne(2), 0.25)
    assert attacker.amplification == 3.0


def test_three_attackers_have_one_atom_each() -> None:
    clients = make_clients(settings(attack={"kind": "dba"}), image_set(64), "cpu")
    pieces = [client.poisoning.trigger for client in clients[:3] if isinstance(client, MaliciousClient)]
    assert len(pieces) == 3
    for piece, atom in zip(pieces, Atoms("+", (1, 8, 16)).parts(), strict=True):
        assert torch.equal(piece.mask, atom.mask)
        assert torch.equal(piece.pattern, atom.pattern)
    assert isinstance(clients[3], HonestClient)


@pytest.mark.parametrize(
    "partition",
    [
        {"partition": "iid"},
        {"partition": "k-label", "labels_per_client": 2},
        {"partition": "dirichlet", "alpha": 0.3},
    ],
)
def test_every_partition_deals_out_all_images_and_runs(tmp_path: Path, partition: dict[str, Any]) -> None:
    config, images = settings(data=partition), image_set(64)
    clients = make_clients(config, images, "cpu")
    held = [client for client in clients if isinstance(client, HonestClient)]
    pixels = torch.cat([client.images for client in held]).flatten(1)
    assert sorted(map(tuple, pixels.tolist())) == sorted(map(tuple, images.images.flatten(1).tolist()))
    kinds = [len(client.labels.unique()) for client in held]
    if partition["partition"] == "k-label":
        assert kinds == [2] * 4
    if partition["partition"] == "dirichlet":
        assert len({len(client.labels) for client in held}) > 1
    assert len(run(config, tmp_path).records()) == 4


def test_more_images_weigh_more(tmp_path: Path) -> None:
    table = {"partition": "dirichlet", "alpha": 0.3}
    ends = []
    for aggregation in ("weighted", "uniform"):
        config = settings(data=table, federation={"aggregation": aggregation})
        ends.append(weights(run(config, tmp_path / aggregation).checkpoint(3)))
    assert not torch.allclose(*ends)


# A start from a checkpoint


def test_a_run_can_go_on_from_another_runs_checkpoint(tmp_path: Path) -> None:
    trunk = run(settings(), tmp_path / "trunk")
    start = {"start": str(trunk.checkpoint(3)), "start_round": 3}
    config = settings(model=start, federation={"rounds": 5}, attack={"first_round": 4})
    branch = run(config, tmp_path / "branch")
    assert list(states(branch)) == [f"round-000{number}.safetensors" for number in (3, 4, 5)]
    first, *others = branch.records()
    assert (first.round, first.clients, first.attackers) == (3, (), ())
    assert first.accuracy == trunk.records()[-1].accuracy
    assert [record.round for record in others] == [4, 5]
    assert all(0 in record.attackers for record in others)
    assert torch.equal(*(weights(each.checkpoint(3)) for each in (trunk, branch)))
    for number in (3, 4):
        with pytest.raises(Killed):
            run(config, tmp_path / "killed", resume=number > 3, progress=stopping_at(number))
    assert_same(run(config, tmp_path / "killed", resume=True), branch)


def test_a_branch_without_attack_is_the_longer_run(tmp_path: Path) -> None:
    longer = run(settings(federation={"rounds": 5}), tmp_path / "longer")
    start = {"start": str(longer.checkpoint(3)), "start_round": 3}
    branch = run(settings(model=start, federation={"rounds": 5}), tmp_path / "branch")
    assert timeless(branch)[1:] == timeless(longer)[4:]
    assert torch.equal(*(weights(each.checkpoint(5)) for each in (longer, branch)))


def test_a_start_of_another_architecture_is_refused(tmp_path: Path) -> None:
    save_state(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    start = {"start": str(tmp_path / "other.safetensors")}
    with pytest.raises(CheckpointError, match="another architecture"):
        run(settings(model=start), tmp_path / "run")


# The attack works


@pytest.mark.parametrize("kind", ["sba", "dba"])
def test_a_planted_backdoor_works_and_hides(tmp_path: Path, kind: str) -> None:
    tables = {"federation": {"rounds": 8}, "training": {"epochs": 4}}
    attack = {"kind": kind, "target_class": 1, "first_round": 3, "poisoned_share": 1.0}
    records = run(settings(attack=attack, **tables), tmp_path).records()
    assert records[2].asr is not None
    assert records[-1].asr is not None
    assert records[2].asr < 0.3
    assert records[-1].asr > 0.8
    assert records[-1].accuracy > 0.9


def test_amplification_plants_it_at_once(tmp_path: Path) -> None:
    tables = {"federation": {"rounds": 3}, "training": {"epochs": 4}}
    plain = {"target_class": 1, "first_round": 3}
    quiet = run(settings(attack=plain, **tables), tmp_path / "quiet").records()[-1]
    loud = run(settings(attack=plain | {"amplification": 4.0}, **tables), tmp_path / "loud").records()[-1]
    assert quiet.asr is not None
    assert loud.asr is not None
    assert loud.asr > quiet.asr + 0.3


def test_there_are_as_many_classes_as_names() -> None:
    assert image_set(8).num_classes == CLASSES
