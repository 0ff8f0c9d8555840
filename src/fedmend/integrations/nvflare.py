"""fedmend in NVIDIA FLARE: a guard around an aggregator. Needs the extra ``fedmend[nvflare]``.

Written for FLARE's ``ModelAggregator``, which its FedAvg recipe and workflows take.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import ModelLearnableKey
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.workflows.base_fedavg import BaseFedAvg
from torch import Tensor, nn

from fedmend.aggregation.base import MOST_EXAMPLES
from fedmend.errors import ConfigError
from fedmend.integrations.averaged_weights import in_model_type, in_torch, in_type
from fedmend.integrations.client_metrics import finite_numbers
from fedmend.terminal_text import printable
from fedmend.untrusted import FLOATS, INTEGERS, is_plain
from fedmend.user_code import current_folder_importable, load_factory

if TYPE_CHECKING:
    from nvflare.job_config.api import FedJob
    from nvflare.recipe.spec import Recipe

    from fedmend.guard import Decision, Guard
    from fedmend.guard.weights import State

_KINDS = {ParamsType.FULL: "full weights", ParamsType.DIFF: "differences"}


class WeightedMean(ModelAggregator):
    """FLARE's own weighted average, as an aggregator: its FedAvg workflow uses it only where there is no aggregator.

    The weights are the numbers of local steps that clients report.
    """

    def __init__(self) -> None:
        super().__init__()
        self._models: list[FLModel] = []

    def accept_model(self, model: FLModel) -> None:
        """Keep a client's model until the round ends."""
        self._models.append(model)

    def aggregate_model(self) -> FLModel:
        """The mean of the models, or differences, and of the clients' metrics."""
        return BaseFedAvg.aggregate_fn(self._models)

    def reset_stats(self) -> None:
        """Forget the models."""
        self._models = []


class GuardedAggregator(ModelAggregator):
    """An aggregator whose result a guard reviews before FLARE saves it or any client gets it.

    Clients may send full weights or differences; what fewer of them send in a round is left out. The inner aggregator
    gets numbers in the model's types, as arrays or tensors like the global model's. The result is always full weights,
    those of ``continue_from`` in the guard's decision: adding a difference would round, and the model would no longer
    be the one that was reviewed. After a rollback it is the last accepted model. If there is none, or no client's model
    can be used, the global model stays as it was. Nothing of a decision but the weights goes into the result, since
    FLARE sends its metadata to the clients. A model that is held becomes FLARE's global model, which FLARE saves; the
    guard's history holds the released ones.

    A job that starts again goes on from the model accepted last, not from the initial one. The guard numbers reviews
    from 1 on, through all jobs with the same history. If the guard says stop, the job ends with FLARE's fatal error;
    FLARE gives an aggregator no other way.

    Args:
        guard: the guard; in a job, the name of the function that makes it, ``module:function``, since FLARE writes a
            job's components as JSON. The module's file goes with the job: ``recipe.add_server_file``.
        inner: aggregates, as without a guard; None: FLARE's own weighted mean.

    Attributes:
        decisions: the guard's, since this object was made.

    Raises:
        ConfigError: from ``reset_stats``, before clients train: the name can't be used. From ``aggregate_model``: there
            is no global model to add differences to. What ``Guard.review`` raises.
    """

    def __init__(self, guard: Guard | str, inner: ModelAggregator | None = None) -> None:
        super().__init__()
        self.guard = guard
        self.inner = WeightedMean() if inner is None else inner
        self.decisions: list[Decision] = []
        self._made: Guard | None = None
        self._own: dict[str, Tensor] = {}
        self._last: Mapping[str, Any] = {}
        self._models: list[FLModel] = []
        self._sent_arrays: Counter[bool] = Counter()
        self._stopped = False
        self._lock = threading.Lock()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Put the last accepted model in the place of the initial one, when FLARE has loaded it."""
        super().handle_event(event_type, fl_ctx)
        if event_type == AppEventType.INITIAL_MODEL_LOADED:
            self.fl_ctx = fl_ctx
            released, initial = self._ready().released(), self._global()
            if released is not None and initial:
                initial.update(_as_sent(released, _holds_arrays(initial)))

    def accept_model(self, model: FLModel) -> None:
        """Keep a client's model for the inner aggregator, unless it can't be of this federation."""
        self._ready()
        params = _params(model, self._own)
        if isinstance(params, str):
            self._leave_out(model, params)
            return
        self._sent_arrays[_holds_arrays(model.params)] += 1
        kept = copy(model)
        kept.params, kept.metrics = params, finite_numbers(model.metrics)
        self._models.append(kept)

    def aggregate_model(self) -> FLModel:
        """The full weights that the next round starts from, with the inner aggregator's metrics."""
        before = self._global()
        if not self._models or self._stopped:
            return FLModel(params_type=ParamsType.FULL, params=dict(before))
        self._pass_on(before)
        result = self.inner.aggregate_model()
        decision = self._review(self._candidate(result, before))
        onwards = decision.continue_from
        params = (
            dict(before) if onwards is None else _as_sent(onwards, _holds_arrays(before or result.params))
        )
        self._last = params
        return FLModel(
            params_type=ParamsType.FULL, params=params, metrics=result.metrics, meta=dict(result.meta or {})
        )

    def reset_stats(self) -> None:
        """Begin a round."""
        self._ready()
        self._models, self._sent_arrays = [], Counter()
        self.inner.fl_ctx = self.fl_ctx
        self.inner.reset_stats()

    def _ready(self) -> Guard:
        """The guard, made when it is first needed."""
        with self._lock:
            if self._made is None:
                self._made = _made(self.guard)
                model = self._made.model
                self._own = (model if isinstance(model, nn.Module) else model()).state_dict()
            return self._made

    def _global(self) -> dict[str, Any]:
        """The global model that the round began with, as FLARE holds it; empty if it is not known."""
        held = None if self.fl_ctx is None else self.fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        weights: dict[str, Any] = dict(self._last) if held is None else held[ModelLearnableKey.WEIGHTS]
        return weights

    def _candidate(self, result: FLModel, before: Mapping[str, Any]) -> State:
        """The whole ``state_dict`` that the inner aggregator's result makes."""
        sent = {name: _tensor(value) for name, value in result.params.items()}
        if result.params_type == ParamsType.DIFF:
            missing = [name for name in sent if name not in before]
            if missing:
                raise ConfigError(
                    "expected a global model to add the clients' differences to; FLARE holds none with "
                    f"{printable(missing[0])}. Give the recipe the initial model, or let clients send full weights "
                    "(params_transfer_type)"
                )
            sent = {name: _sum(_tensor(before[name]), value) for name, value in sent.items()}
        whole = {name: _tensor(value) for name, value in before.items()} | sent
        return {
            name: in_model_type(name, value, self._own[name].dtype) if name in self._own else value
            for name, value in whole.items()
            if isinstance(value, Tensor)
        }

    def _review(self, candidate: State) -> Decision:
        guard = self._ready()
        decision = guard.review(candidate, (guard.last_round or 0) + 1)
        self.decisions.append(decision)
        said = f"guard: round {decision.round}: {decision.action} ({decision.verdict}). {printable(decision.reason)}"
        if decision.action in ("accept", "hold"):
            self.info(said)
        else:
            self.warning(said)
        if decision.stop:
            self._stopped = True
            self.system_panic(f"the guard stops the federation. {said}", self.fl_ctx)
        return decision

    def _pass_on(self, before: Mapping[str, Any]) -> None:
        """Give the inner aggregator the round's models, of the kind that most clients sent, whoever was first.

        All are arrays or all tensors, as the global model is, or, if there is none, as most clients' models are.
        """
        arrays = _holds_arrays(before) if before else self._sent_arrays.most_common(1)[0][0]
        ((kind, _),) = Counter(model.params_type for model in self._models).most_common(1)
        self.inner.fl_ctx = self.fl_ctx
        for model in self._models:
            if model.params_type == kind:
                model.params = _as_sent(model.params, arrays)
                self.inner.accept_model(model)
            else:
                self._leave_out(
                    model, f"most clients sent {_KINDS[kind]}, it sent {_KINDS[model.params_type]}"
                )

    def _leave_out(self, model: FLModel, flaw: str) -> None:
        client = printable(str((model.meta or {}).get("client_name", "a client")))
        self.warning(f"guard: the model of {client} is left out: {flaw}")


def ship_guard(recipe: Recipe, *files: Path | str) -> None:
    """Add the file that makes the guard, and those that it needs, to the server's part of a job.

    It also tells FLARE that fedmend is installed on the server; else FLARE would copy fedmend's source into the job.

    Args:
        recipe: of the job.
        files: the module that the guard's name begins with, such as ``server_guard.py``, and what it reads.
    """
    job: FedJob = recipe._job  # FLARE has no public way
    job.set_app_packages(["fedmend"])
    for file in files:
        job.to_server(str(file))


def _made(guard: Guard | str) -> Guard:
    if not isinstance(guard, str):
        return guard
    factory = load_factory(guard, "guard", ConfigError)
    with current_folder_importable(guard):
        made: Guard = factory()
    if not hasattr(made, "review"):
        raise ConfigError(f"{guard!r} returned a {type(made).__name__}; expected a fedmend.Guard")
    return made


def _params(model: FLModel, own: State) -> dict[str, Tensor] | str:
    """A client's entries in the types of the guard's model, or why they can't be used.

    They must be entries of that model, finite in its types and of its shapes.
    """
    if model.params_type not in (ParamsType.FULL, ParamsType.DIFF) or not isinstance(model.params, dict):
        return "it holds no weights"
    steps = (model.meta or {}).get(FLMetaKey.NUM_STEPS_CURRENT_ROUND)
    if steps is not None and not (type(steps) in (int, float) and 0 < steps <= MOST_EXAMPLES):
        return f"its number of steps isn't above 0, at most {MOST_EXAMPLES:,}"
    params = {}
    for name, value in model.params.items():
        tensor = _tensor(value)
        if name not in own or tensor is None or tensor.shape != own[name].shape:
            return f"it holds {printable(str(name))} in a form that the model has not"
        params[name] = in_type(tensor, own[name].dtype)
        if not bool(params[name].isfinite().all()):
            return "it holds NaN or infinite values"
    return params


def _tensor(value: object) -> Tensor | None:
    """Numbers as FLARE sends them; None for anything else."""
    if is_plain(value, (torch.bool, *INTEGERS, *FLOATS)):
        return value.detach().cpu()
    if isinstance(value, np.ndarray | np.generic) and in_torch(value.dtype):
        return torch.from_numpy(np.array(value))
    return None


def _sum(before: Tensor | None, difference: Tensor | None) -> Tensor | None:
    return None if before is None or difference is None else before + difference


def _holds_arrays(params: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, Tensor) for value in params.values())


def _as_sent(state: State, arrays: bool) -> dict[str, Any]:
    """Weights in the model's own types, as arrays or as tensors."""
    return {name: value.numpy() if arrays else value for name, value in state.items()}
