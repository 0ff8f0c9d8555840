"""FLARE's FedAvg workflow as far as an aggregator sees it, and a guard whose decisions a test dictates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from torch import Tensor, nn

from fedmend.guard import Decision
from fedmend.integrations.nvflare import GuardedAggregator

BIAS = "4.bias"


def net() -> nn.Module:
    """Parameters in float32, BatchNorm's buffers and an int64 counter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


START = net().state_dict()


def arrays(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in state.items()}


class DictatedGuard:
    """Decides what it is told and remembers the candidates; "+stop" after an action stops the federation."""

    def __init__(self, *actions: str, last_round: int | None = None, released: Any = None) -> None:
        self.model, self.actions, self.last_round = net(), list(actions), last_round
        self.candidates: list[dict[str, Tensor]] = []
        self._released = released

    def released(self) -> Any:
        return self._released

    def review(self, candidate: Mapping[str, Tensor], round: int) -> Decision:
        action, _, stop = self.actions.pop(0).partition("+")
        state = {name: value.clone() for name, value in candidate.items()}
        self.candidates.append(state)
        self.last_round = round
        if action == "accept":
            self._released = state
        onwards = state if action == "hold" else self._released
        return Decision(
            round, action, self._released, "clean", "Dictated.", bool(stop), continue_from=onwards
        )


class Job:
    """FLARE's FedAvg workflow, as far as an aggregator sees it."""

    def __init__(self, aggregator: GuardedAggregator, kind: ParamsType, initial: Any = None) -> None:
        self.aggregator, self.kind = aggregator, kind
        self.model = FLModel(params=arrays(START) if initial is None else initial)
        self.context = FLContext()
        aggregator.handle_event(EventType.START_RUN, self.context)
        self._hold()
        aggregator.handle_event(AppEventType.INITIAL_MODEL_LOADED, self.context)

    def round(self, *steps: float, examples: int | None = 10, **changed: Any) -> FLModel:
        """Each client adds its step to every float, and 1 to the counter; ``changed`` is of the last client's model."""
        self.aggregator.reset_stats()
        for number, step in enumerate(steps):
            moves = {
                name: np.full_like(value, step if value.dtype.kind == "f" else 1)
                for name, value in self.model.params.items()
            }
            params = (
                moves
                if self.kind == ParamsType.DIFF
                else {name: value + moves[name] for name, value in self.model.params.items()}
            )
            meta = {"client_name": f"site-{number + 1}", FLMetaKey.NUM_STEPS_CURRENT_ROUND: examples}
            sent = FLModel(params_type=self.kind, params=params, metrics={"accuracy": 0.5}, meta=meta)
            if number == len(steps) - 1:
                for name, value in changed.items():
                    setattr(sent, name, value(sent) if callable(value) else value)
            self.aggregator.accept_model(sent)
        result = self.aggregator.aggregate_model()
        self.model = FLModelUtils.update_model(self.model, result)
        self._hold()
        return result

    def bias(self) -> Tensor:
        return torch.from_numpy(self.model.params[BIAS])

    def _hold(self) -> None:
        held = make_model_learnable(self.model.params, {})
        self.context.set_prop(AppConstants.GLOBAL_MODEL, held, private=True, sticky=False)
