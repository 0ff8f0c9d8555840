import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import data, settings
from torch import Tensor, nn

from fedmend.errors import ConfigError
from fedmend.federation import HonestClient, RunFolder, simulate
from fedmend.federation.simulator import make_clients
from fedmend.parameters import flatten
from fedmend.pruning import RankingVote, mean_activations, ranks
from fedmend.repairs import PAPER_RECIPE, FederatedPruning, last_model

TRAIN, TEST = data()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A federation under attack, of the network with batch normalisation and dropout; its last layer has 4 channels."""
    config = settings(
        model={"architecture": "tiny_nets:conv"},
        attack={"kind": "sba", "shape": "9px", "target_class": 1, "victim_class": 0, "amplification": 2.0},
    )
    return simulate(config, tmp_path_factory.mktemp("run") / "out", data=(TRAIN, TEST))


def sequence_of_honest_votes(run: RunFolder) -> list[int]:
    model = last_model(run, TRAIN)
    vote = RankingVote(4, 4)
    for client in make_clients(run.config(), TRAIN, "cpu"):
        images = client.images if isinstance(client, HonestClient) else client.honest.images
        vote.add(client.client_id, ranks(mean_activations(model, images)))
    return vote.scores("median").argsort(stable=True).tolist()


def test_the_clients_vote_and_the_model_is_pruned(run: RunFolder) -> None:
    recipe = FederatedPruning(fine_tuning_rounds=0)
    before = {file.name: file.read_bytes() for file in sorted(run.path.rglob("*.*")) if file.is_file()}
    model, report = recipe(run, validation=TEST, data=TRAIN)
    assert list(report.sequence) == sequence_of_honest_votes(run)
    assert (report.ballots, report.missing, report.refused) == (4, 0, {})
    weight = model.get_parameter(f"{report.layer}.weight")
    assert bool((weight[list(report.pruned)] == 0).all())
    assert {
        file.name: file.read_bytes() for file in sorted(run.path.rglob("*.*")) if file.is_file()
    } == before


def test_pruned_channels_stay_pruned_while_an_attacker_trains_on(run: RunFolder) -> None:
    stages: dict[str, Tensor] = {}
    recipe = FederatedPruning(
        pruning=replace(FederatedPruning().pruning, max_drop=1.0, delta=3.0), fine_tuning_rounds=2
    )
    model, report = recipe(
        run,
        validation=TEST,
        data=TRAIN,
        watch=lambda stage, shown: stages.update({stage: flatten(shown.state_dict())}),
    )
    assert len(report.pruned) == 3
    dead = list(report.pruned)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert bool((model.get_parameter(name)[dead] == 0).all()), name
    assert list(stages) == [
        *(
            "suspect",
            "pruned",
            "fine-tuning, round 1",
            "fine-tuning, round 2",
            "fine-tuned",
            "adjusted again",
        ),
    ]
    assert not torch.equal(stages["pruned"], stages["fine-tuned"])
    rounds = [stages[f"fine-tuning, round {number}"] for number in (1, 2)]
    assert any(torch.equal(each, stages["fine-tuned"]) for each in rounds)  # the one that resists best


def test_the_same_run_gives_the_same_model(run: RunFolder) -> None:
    recipe = FederatedPruning(fine_tuning_rounds=1)
    first, second = (flatten(recipe(run, validation=TEST, data=TRAIN)[0].state_dict()) for _ in range(2))
    assert torch.equal(first, second)


def test_without_validation_images_the_clients_report(run: RunFolder) -> None:
    _, report = FederatedPruning(fine_tuning_rounds=0)(run, data=TRAIN)
    assert len(report.accuracies) == len(report.points) == 4
    assert report.warnings == ()


def test_a_lying_minority_does_not_decide_how_far(run: RunFolder) -> None:
    """One of four says that any pruning ruins the model."""
    recipe = FederatedPruning(fine_tuning_rounds=0)
    honest, lied = (recipe(run, data=TRAIN, liars=liars)[1] for liars in (0, 1))
    assert min(lied.accuracies) > 0.2
    assert lied.accuracies[1] >= min(honest.accuracies) - 0.2


def test_liars_change_their_ballots_only(run: RunFolder) -> None:
    recipe = PAPER_RECIPE
    recipe = replace(recipe, fine_tuning_rounds=0)
    honest, lied = (recipe(run, validation=TEST, data=TRAIN, liars=liars)[1] for liars in (0, 4))
    assert honest.sequence != lied.sequence
    assert honest.accuracies[0] == lied.accuracies[0]


def test_a_majority_vote(run: RunFolder) -> None:
    _, report = FederatedPruning(vote="majority", rates=(0.25, 0.5), fine_tuning_rounds=0)(
        run, validation=TEST, data=TRAIN
    )
    assert report.vote == "majority"
    assert report.ballots == 4


def test_clients_that_fail_or_take_too_long_have_no_say(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = HonestClient.activations

    def slow_or_failing(self: HonestClient, model: nn.Module, layer: str) -> Tensor:
        if self.client_id == 1:
            raise ConnectionError("gone")
        if self.client_id == 2:
            time.sleep(0.3)
        return original(self, model, layer)

    monkeypatch.setattr(HonestClient, "activations", slow_or_failing)
    _, report = FederatedPruning(fine_tuning_rounds=0, timeout=0.25)(run, validation=TEST, data=TRAIN)
    assert report.ballots == 2
    assert report.refused == {"no answer: the client failed": 1, "no answer in time": 1}


def test_reports_that_are_refused_are_told(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    original = HonestClient.accuracies

    def boastful(self: HonestClient, *question: object) -> Tensor:
        answer = original(self, *question)  # type: ignore[arg-type]
        return answer + 1 if self.client_id == 3 else answer

    monkeypatch.setattr(HonestClient, "accuracies", boastful)
    _, report = FederatedPruning(fine_tuning_rounds=0)(run, data=TRAIN)
    assert report.warnings == ("of 4 reports of accuracies, refused: 1 for accuracies below 0 or above 1",)


def test_a_run_without_a_model_yet_is_refused(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "begun", settings(), None, resume=False)
    with pytest.raises(ConfigError, match="holds no model yet"):
        last_model(run, TRAIN)


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"vote": "show of hands"},
            {"rates": (0.5, 0.0)},
            {"rates": (1.0,)},
            {"rates": ()},
            {"fine_tuning_rounds": -1},
            {"timeout": 0.0},
        ),
    ],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FederatedPruning(**wrong)  # type: ignore[arg-type]


def test_a_client_that_lies_between_stages_does_not_decide(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers truly along the sequence and says afterwards that the model is ruined."""
    original = HonestClient.accuracies
    recipe = FederatedPruning(fine_tuning_rounds=0)

    def changing(self: HonestClient, *question: Any) -> Tensor:
        answer = original(self, *question)
        return answer * 0 if self.client_id == 3 and len(question[3]) == 1 else answer

    honest = recipe(run, data=TRAIN)[1]
    monkeypatch.setattr(HonestClient, "accuracies", changing)
    lied = recipe(run, data=TRAIN)[1]
    others = [original(client, last_model(run, TRAIN), "0", range(4), [0]) for client in honest_clients(run)]
    assert honest.accuracies == lied.accuracies
    assert abs(honest.stages[-1].accuracy - lied.stages[-1].accuracy) < 0.1
    assert honest.stages[0].accuracy == pytest.approx(float(torch.cat(others).median()))


def honest_clients(run: RunFolder) -> list[HonestClient]:
    clients = make_clients(run.config(), TRAIN, "cpu")
    return [client if isinstance(client, HonestClient) else client.honest for client in clients]


@pytest.mark.parametrize("liars", [-1, 5])
def test_there_are_not_more_liars_than_clients(run: RunFolder, liars: int) -> None:
    with pytest.raises(ConfigError, match=r"liars must be from 0 to the number of clients \(4\)"):
        FederatedPruning(fine_tuning_rounds=0)(run, validation=TEST, data=TRAIN, liars=liars)


def test_a_run_that_stopped_early_is_repaired_with_a_warning(tmp_path: Path) -> None:
    done = simulate(settings(model={"architecture": "tiny_nets:conv"}), tmp_path / "run", data=(TRAIN, TEST))
    done.checkpoint(3).unlink()
    _, report = FederatedPruning(fine_tuning_rounds=0)(done, validation=TEST, data=TRAIN)
    assert report.warnings[:1] == ("the run stopped after round 2 of 3; its last model was repaired",)
