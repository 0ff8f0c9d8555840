import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from voting import TRAIN, attacked_run, details, state, voted

from fedmend.errors import ConfigError
from fedmend.federation import Client, RunFolder, load_federation
from fedmend.federation.workers import client_workers
from fedmend.pruning import RankingVote, mean_activations, ranks
from fedmend.repairs import PAPER_RECIPE, Context, FederatedPruning
from fedmend.repairs.simulated_run import participants_of, round_model

VOTE_ONLY = FederatedPruning(fine_tuning_rounds=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return attacked_run(tmp_path_factory.mktemp("run") / "out")


def sequence_of_honest_votes(run: RunFolder) -> list[int]:
    model = round_model(run, TRAIN)
    vote = RankingVote(4, 4)
    for client in load_federation(run, TRAIN).clients:
        vote.add(client.client_id, ranks(mean_activations(model, client.images)))
    return vote.scores("median").argsort(stable=True).tolist()


def test_the_clients_vote_and_the_model_is_pruned(run: RunFolder) -> None:
    model, report, stages = voted(run, VOTE_ONLY)
    told = details(report)
    assert list(told.sequence) == sequence_of_honest_votes(run)
    assert (told.ballots, told.missing, told.refused) == (4, 0, {})
    assert list(stages) == ["suspect", "pruned"]
    assert model is stages["pruned"]
    assert model is not None
    assert bool((model.get_parameter(f"{told.layer}.weight")[list(told.pruned)] == 0).all())


@pytest.mark.parametrize("distils", [True, False])
def test_pruned_channels_stay_pruned_while_an_attacker_trains_on(run: RunFolder, distils: bool) -> None:
    method = FederatedPruning(
        pruning=replace(FederatedPruning().pruning, max_drop=1.0, delta=3.0), fine_tuning_rounds=2
    )
    method = method if distils else replace(method, distillation=None)
    _, report, stages = voted(run, method)
    told = details(report)
    assert len(told.pruned) == 3
    assert list(stages) == ["suspect", "pruned", "fine-tuned", "adjusted again"]
    assert [stage.name for stage in told.stages] == list(stages)
    for stage in ("pruned", "fine-tuned", "adjusted again"):
        for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
            assert bool((stages[stage].get_parameter(name)[list(told.pruned)] == 0).all()), (stage, name)
    assert not torch.equal(state(stages["pruned"]), state(stages["fine-tuned"]))
    assert (len(told.triggers) > 0) == distils


def test_extreme_weights_can_be_adjusted_before_as_well(run: RunFolder) -> None:
    pruning = replace(FederatedPruning().pruning, max_drop=1.0, delta=1.0, adjust_first=True)
    _, report, stages = voted(run, FederatedPruning(pruning=pruning, fine_tuning_rounds=1))
    assert list(stages) == ["suspect", "pruned", "adjusted", "fine-tuned", "adjusted again"]
    assert details(report).stages[2].zeroed > 0
    before, after = (stages[name].get_parameter("0.weight") for name in ("adjusted", "fine-tuned"))
    assert bool((after[before == 0] == 0).all())


def test_the_same_run_gives_the_same_model(run: RunFolder) -> None:
    method = FederatedPruning(fine_tuning_rounds=1)
    first, second = (state(voted(run, method)[2]["fine-tuned"]) for _ in range(2))
    assert torch.equal(first, second)


def test_workers_give_the_same_model(run: RunFolder) -> None:
    """With one thread in this process, too."""
    suspect, federation = round_model(run, TRAIN), load_federation(run, TRAIN)
    for method in (FederatedPruning(fine_tuning_rounds=1), replace(PAPER_RECIPE, fine_tuning_rounds=1)):
        models = []
        for workers in (1, 2):
            with client_workers(workers) as fit:
                context = Context(participants=participants_of(run, federation, fit))
                models.append(method(suspect, (), context).model)
        assert torch.equal(state(models[0]), state(models[1]))


def test_without_validation_images_the_clients_report(run: RunFolder) -> None:
    _, report, _ = voted(run, VOTE_ONLY, validated=False)
    told = details(report)
    assert len(told.accuracies) == len(told.points) == 4
    assert (report.num_heldout, report.accuracy_error, report.warnings) == (0, 0.0, ())
    assert report.accuracy_before == told.stages[0].accuracy
    assert report.accuracy_after == told.stages[-1].accuracy
    assert "as the clients report it" in report.reason


def test_a_lying_minority_does_not_decide_how_far(run: RunFolder) -> None:
    """One of four says that any pruning ruins the model."""
    honest, lied = (details(voted(run, VOTE_ONLY, validated=False, lying_clients=n)[1]) for n in (0, 1))
    assert min(lied.accuracies) > 0.2
    assert lied.accuracies[1] >= min(honest.accuracies) - 0.2


def test_lying_clients_change_their_ballots_only(run: RunFolder) -> None:
    method = replace(PAPER_RECIPE, fine_tuning_rounds=0)
    honest, lied = (details(voted(run, method, lying_clients=lying)[1]) for lying in (0, 4))
    assert honest.sequence != lied.sequence
    assert honest.accuracies[0] == lied.accuracies[0]


def test_a_majority_vote(run: RunFolder) -> None:
    method = FederatedPruning(vote="majority", rates=(0.25, 0.5), fine_tuning_rounds=0)
    told = details(voted(run, method)[1])
    assert (told.vote, told.ballots) == ("majority", 4)


def test_clients_that_fail_or_take_too_long_have_no_say(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Client.activations

    def slow_or_failing(self: Client, model: nn.Module, layer: str) -> Tensor:
        if self.client_id == 1:
            raise ConnectionError("gone")
        if self.client_id == 2:
            time.sleep(1.1)
        return original(self, model, layer)

    monkeypatch.setattr(Client, "activations", slow_or_failing)
    told = details(voted(run, FederatedPruning(fine_tuning_rounds=0, timeout=1.0))[1])
    assert told.ballots == 2
    assert told.refused == {"no reply: the client failed": 1, "no reply in time": 1}


def test_reports_that_are_refused_are_told(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Client.accuracies

    def boastful(self: Client, *question: Any) -> Tensor:
        reply = original(self, *question)
        return reply + 1 if self.client_id == 3 else reply

    monkeypatch.setattr(Client, "accuracies", boastful)
    _, report, _ = voted(run, VOTE_ONLY, validated=False)
    assert report.warnings == ("of 4 reports of accuracies, refused: 1 for accuracies below 0 or above 1",)


def test_a_client_that_lies_between_stages_does_not_decide(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replies truly along the sequence and says afterwards that the model is ruined."""
    original = Client.accuracies

    def changing(self: Client, *question: Any) -> Tensor:
        reply = original(self, *question)
        return reply * 0 if self.client_id == 3 and len(question[3]) == 1 else reply

    honest = details(voted(run, VOTE_ONLY, validated=False)[1])
    monkeypatch.setattr(Client, "accuracies", changing)
    lied = details(voted(run, VOTE_ONLY, validated=False)[1])
    clients = load_federation(run, TRAIN).clients
    firsts = [original(client, round_model(run, TRAIN), "0", range(4), [0]) for client in clients]
    assert honest.accuracies == lied.accuracies
    assert abs(honest.stages[-1].accuracy - lied.stages[-1].accuracy) < 0.1
    assert honest.stages[0].accuracy == pytest.approx(float(torch.cat(firsts).median()))


def test_validation_images_that_tell_little_are_warned_of(run: RunFolder) -> None:
    _, report, _ = voted(run, VOTE_ONLY)
    assert report.warnings[0].startswith("with 32 validation images, two errors exceed the 1 points")


def test_it_needs_participants() -> None:
    with pytest.raises(ConfigError, match="needs the federation's clients"):
        VOTE_ONLY(nn.Conv2d(1, 2, 3), (), Context())


@pytest.mark.parametrize(
    "wrong",
    [
        *({"vote": "show of hands"}, {"rates": (0.5, 0.0)}, {"rates": (1.0,)}, {"rates": ()}),
        *({"fine_tuning_rounds": -1}, {"timeout": 0.0}, {"round": 3}),
    ],
    ids=str,
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="FederatedPruning: "):
        FederatedPruning(**wrong)


def test_a_round_that_was_not_kept_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint of round 7; its last is of round 3"):
        round_model(run, TRAIN, 7)
    with pytest.raises(ConfigError, match="holds no model yet"):
        round_model(RunFolder(tmp_path), TRAIN)
