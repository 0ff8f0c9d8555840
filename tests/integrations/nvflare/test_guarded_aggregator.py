"""A guard around FLARE's aggregators, called as FLARE calls them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flare_job import BIAS, START, DictatedGuard, Job, arrays
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from torch import Tensor

from fedmend.errors import ConfigError
from fedmend.integrations.nvflare import GuardedAggregator


@pytest.mark.parametrize(
    ("actions", "gained"),
    [
        (("accept", "accept"), 2),
        (("accept", "rollback"), 1),
        (("accept", "rollback", "accept"), 2),
        (("rollback", "rollback"), 0),
        (("accept", "hold"), 2),
        (("accept", "hold", "rollback"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_the_next_round_starts_from(kind: ParamsType, actions: tuple[str, ...], gained: int) -> None:
    job = Job(GuardedAggregator(DictatedGuard(*actions)), kind)
    for _ in actions:
        job.round(1.0, 1.0)
    torch.testing.assert_close(job.bias(), START[BIAS] + gained)


def test_the_guard_sees_whole_models_in_their_own_types(kind: ParamsType) -> None:
    """FLARE's average turns the int64 counter into a float."""
    guard = DictatedGuard("accept", "accept")
    job = Job(GuardedAggregator(guard), kind)
    job.round(1.0, 3.0)
    job.round(1.0, 1.0)
    for state in guard.candidates:
        assert {name: value.dtype for name, value in state.items()} == {
            name: value.dtype for name, value in START.items()
        }
    assert int(guard.candidates[1]["1.num_batches_tracked"]) == 2
    torch.testing.assert_close(guard.candidates[1]["1.running_mean"], START["1.running_mean"] + 3)
    assert job.model.params["1.num_batches_tracked"].dtype == np.int64


def test_the_result_is_the_reviewed_model_bit_for_bit_and_no_more(kind: ParamsType) -> None:
    """FLARE sends a result's metadata to the clients: they mustn't learn what the scan found."""
    guard = DictatedGuard("accept")
    job = Job(GuardedAggregator(guard), kind)
    result = job.round(0.1, 0.3)
    assert result.params_type == ParamsType.FULL
    for name, value in guard.candidates[0].items():
        assert torch.equal(torch.from_numpy(result.params[name]), value)
    assert "Dictated" not in str(result.meta)
    assert result.metrics == {"accuracy": 0.5}


def test_clients_may_send_a_part_of_the_model(kind: ParamsType) -> None:
    guard = DictatedGuard("accept")
    job = Job(GuardedAggregator(guard), kind)
    job.round(1.0, params=lambda sent: {BIAS: sent.params[BIAS]})
    assert list(guard.candidates[0]) == list(START)
    torch.testing.assert_close(guard.candidates[0][BIAS], START[BIAS] + 1)
    torch.testing.assert_close(guard.candidates[0]["0.weight"], START["0.weight"])


def test_tensors_stay_tensors(kind: ParamsType) -> None:
    aggregator = GuardedAggregator(DictatedGuard("accept"))
    Job(aggregator, kind, initial=dict(START))
    moves = {name: torch.ones_like(value) for name, value in START.items()}
    params = moves if kind == ParamsType.DIFF else {name: START[name] + moves[name] for name in START}
    aggregator.reset_stats()
    aggregator.accept_model(FLModel(params_type=kind, params=params))
    result = aggregator.aggregate_model().params
    assert all(isinstance(value, Tensor) for value in result.values())
    torch.testing.assert_close(result[BIAS], START[BIAS] + 1)


GARBAGE = {
    "shape": lambda sent: {**sent.params, BIAS: np.zeros(3, np.float32)},
    "broadcast": lambda sent: {**sent.params, BIAS: np.zeros((1, 2), np.float32)},
    "name": lambda sent: {**sent.params, "other": np.zeros(2, np.float32)},
    "nan": lambda sent: {**sent.params, BIAS: np.array([np.nan, 0], np.float32)},
    "infinite": lambda sent: {**sent.params, BIAS: np.array([np.inf, 0], np.float32)},
    "text": lambda sent: {**sent.params, BIAS: "0 0"},
    "objects": lambda sent: {**sent.params, BIAS: np.array([None, {}], object)},
    "list": lambda sent: [1, 2],
    "another byte order": lambda sent: {**sent.params, BIAS: np.zeros(2, np.dtype("f4").newbyteorder())},
    "float8": lambda sent: {**sent.params, BIAS: torch.zeros(2).to(torch.float8_e4m3fn)},
    "meta": lambda sent: {**sent.params, BIAS: torch.zeros(2, device="meta")},
    "infinite in float32": lambda sent: {**sent.params, BIAS: np.full(2, 1e300)},
    "infinite counter": lambda sent: {**sent.params, "1.num_batches_tracked": np.array(np.inf)},
    "long doubles": lambda sent: {**sent.params, BIAS: np.full(2, np.inf, np.longdouble)},
}


@pytest.mark.parametrize("params", GARBAGE.values(), ids=GARBAGE)
def test_a_client_that_sends_no_model_of_the_federation_is_left_out(kind: ParamsType, params: Any) -> None:
    guard = DictatedGuard("accept")
    Job(GuardedAggregator(guard), kind).round(1.0, 5.0, params=params)
    torch.testing.assert_close(guard.candidates[0][BIAS], START[BIAS] + 1)


FORMS = {
    "array": lambda value: value.numpy(),
    "doubles": lambda value: value.double().numpy(),
    "tensor": lambda value: value,
    "bfloat16": lambda value: value.bfloat16(),
    "with gradient": lambda value: value.clone().requires_grad_(),
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("usual", ["array", "tensor"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_client_may_send_numbers_in_another_form_than_the_rest(
    kind: ParamsType, form: Any, usual: str, first: bool
) -> None:
    guard = DictatedGuard("accept")
    aggregator = GuardedAggregator(guard)
    Job(aggregator, kind, initial={name: FORMS[usual](value) for name, value in START.items()})
    aggregator.reset_stats()
    forms = [FORMS[usual], FORMS[usual]]
    forms.insert(0 if first else 2, form)
    for each in forms:
        value = torch.ones(2) if kind == ParamsType.DIFF else START[BIAS] + 1
        aggregator.accept_model(FLModel(params_type=kind, params={BIAS: each(value)}))
    result = aggregator.aggregate_model()
    assert result.meta["nr_aggregated"] == 3
    torch.testing.assert_close(guard.candidates[0][BIAS], START[BIAS] + 1, rtol=0, atol=0.01)
    assert {type(value) for value in result.params.values()} == {type(FORMS[usual](START[BIAS]))}


@pytest.mark.parametrize(("usual", "other"), [("array", "tensor"), ("tensor", "array")])
def test_without_a_global_model_the_result_is_of_the_form_that_most_clients_sent(
    usual: str, other: str
) -> None:
    aggregator = GuardedAggregator(DictatedGuard("accept"))
    aggregator.reset_stats()
    for form in (other, usual, usual):
        params = {name: FORMS[form](value) for name, value in START.items()}
        aggregator.accept_model(FLModel(params_type=ParamsType.FULL, params=params))
    result = aggregator.aggregate_model()
    assert {type(value) for value in result.params.values()} == {type(FORMS[usual](START[BIAS]))}


@pytest.mark.parametrize("steps", [0, -1, 1e12, float("nan"), float("inf"), "many", True])
def test_a_number_of_steps_that_would_drown_the_others_is_left_out(steps: Any) -> None:
    guard = DictatedGuard("accept")
    claim = {"client_name": "site-2", FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps}
    Job(GuardedAggregator(guard), ParamsType.FULL).round(1.0, 5.0, meta=claim)
    torch.testing.assert_close(guard.candidates[0][BIAS], START[BIAS] + 1)


@pytest.mark.parametrize("value", [10**400, torch.ones(2, dtype=torch.float8_e4m3fn)], ids=["huge", "float8"])
def test_metrics_that_can_not_be_averaged_do_not_end_the_job(kind: ParamsType, value: Any) -> None:
    result = Job(GuardedAggregator(DictatedGuard("accept")), kind).round(
        1.0, 5.0, metrics={"accuracy": value}
    )
    assert result.metrics == {"accuracy": 0.5}


def test_the_mean_is_weighted_by_steps() -> None:
    guard = DictatedGuard("accept")
    claim = {"client_name": "site-2", FLMetaKey.NUM_STEPS_CURRENT_ROUND: 30}
    Job(GuardedAggregator(guard), ParamsType.FULL).round(1.0, 5.0, meta=claim)
    torch.testing.assert_close(guard.candidates[0][BIAS], START[BIAS] + 4)


def test_one_client_cannot_shut_others_out_by_sending_the_other_kind_first(kind: ParamsType) -> None:
    guard = DictatedGuard("accept")
    job = Job(GuardedAggregator(guard), kind)
    other = ParamsType.DIFF if kind == ParamsType.FULL else ParamsType.FULL
    job.aggregator.reset_stats()
    job.aggregator.accept_model(FLModel(params_type=other, params={BIAS: np.full(2, 50, np.float32)}))
    for _ in range(2):
        value = np.ones(2, np.float32) if kind == ParamsType.DIFF else START[BIAS].numpy() + 1
        job.aggregator.accept_model(FLModel(params_type=kind, params={BIAS: value}))
    job.aggregator.aggregate_model()
    torch.testing.assert_close(guard.candidates[0][BIAS], START[BIAS] + 1)


def test_a_round_without_a_usable_model_changes_nothing_and_asks_no_guard(kind: ParamsType) -> None:
    guard = DictatedGuard()
    job = Job(GuardedAggregator(guard), kind)
    job.round(1.0, params=GARBAGE["nan"])
    assert not guard.candidates
    torch.testing.assert_close(job.bias(), START[BIAS])


class Median(ModelAggregator):
    """An aggregator of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[FLModel] = []

    def accept_model(self, model: FLModel) -> None:
        self.models.append(model)

    def aggregate_model(self) -> FLModel:
        assert self.fl_ctx is not None
        params = {
            name: np.median(np.stack([model.params[name] for model in self.models]), axis=0)
            for name in self.models[0].params
        }
        return FLModel(params_type=self.models[0].params_type, params=params)

    def reset_stats(self) -> None:
        self.models = []


def test_an_aggregator_of_ones_own(kind: ParamsType) -> None:
    guard = DictatedGuard("accept", "accept")
    job = Job(GuardedAggregator(guard, Median()), kind)
    job.round(1.0, 1.0, 50.0)
    job.round(2.0, 2.0, 50.0)
    torch.testing.assert_close(guard.candidates[1][BIAS], START[BIAS] + 3)


def test_a_job_that_starts_again_goes_on_from_the_accepted_model(kind: ParamsType) -> None:
    released = {name: torch.full_like(value, 7) for name, value in START.items()}
    guard = DictatedGuard("accept", last_round=5, released=released)
    job = Job(GuardedAggregator(guard), kind)
    torch.testing.assert_close(job.bias(), torch.full((2,), 7.0))
    job.round(1.0)
    assert guard.last_round == 6
    torch.testing.assert_close(job.bias(), torch.full((2,), 8.0))


def test_a_stop_ends_the_job_with_the_accepted_model(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    guard = DictatedGuard("accept", "rollback+stop")
    aggregator = GuardedAggregator(guard)
    monkeypatch.setattr(aggregator, "system_panic", lambda reason, fl_ctx: reasons.append(reason))
    job = Job(aggregator, ParamsType.FULL)
    for _ in range(3):
        job.round(1.0)
    assert len(reasons) == 1
    assert "stop" in reasons[0]
    assert len(guard.candidates) == 2
    torch.testing.assert_close(job.bias(), START[BIAS] + 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:make", "no_such_module"),
        ("builtins:dict", "returned a dict; expected a fedmend.Guard"),
        ("not a name", "can't read the guard"),
    ],
)
def test_a_guard_that_cannot_be_made_ends_the_job_before_clients_train(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GuardedAggregator(name).reset_stats()


def test_differences_need_a_global_model() -> None:
    aggregator = GuardedAggregator(DictatedGuard())
    aggregator.reset_stats()
    move = {name: np.ones_like(value) for name, value in arrays(START).items()}
    aggregator.accept_model(FLModel(params_type=ParamsType.DIFF, params=move))
    with pytest.raises(ConfigError, match="Give the recipe the initial model"):
        aggregator.aggregate_model()
