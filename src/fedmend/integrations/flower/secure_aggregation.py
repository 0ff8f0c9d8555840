"""A guard in a Flower federation with secure aggregation, whose server sees no client's update.

Flower's ``SecAggPlusWorkflow`` runs on its earlier API only: a ``LegacyContext`` with a ``flwr.server.strategy``. There
the strategy gets the average of the round in the place of each client's model.
"""

from __future__ import annotations

from logging import INFO, WARNING, getLogger
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord
from flwr.common import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    Parameters,
    Scalar,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvgM, FedOpt, Strategy
from torch import Tensor, nn

from fedmend.errors import ConfigError
from fedmend.integrations.flower.array_layout import ArrayLayout
from fedmend.terminal_text import printable

if TYPE_CHECKING:
    from fedmend.guard import Decision, Guard
    from fedmend.guard.weights import State

log = getLogger("flwr").log

_Results = list[tuple[ClientProxy, FitRes]]
_Failures = list[tuple[ClientProxy, FitRes] | BaseException]


class SecureGuardedStrategy(Strategy):
    """A strategy of Flower's earlier API whose aggregated model a guard reviews, for ``SecAggPlusWorkflow``.

    The guard needs the aggregated model only. No reply can be checked here: a client that sends garbage spoils the sum,
    which the guard then refuses. A federation that starts again goes on from the model accepted last.

    Args:
        inner: chooses the clients; one without memory, such as ``FedAvg``.
        guard: made for the federation's model. Parameters are its ``state_dict``'s values, in their order. Secure
            aggregation cuts them off at the workflow's ``clipping_range``, BatchNorm's counter included.

    Attributes:
        decisions: the guard's, since this object was made.

    Raises:
        ConfigError: ``inner`` keeps moments of earlier rounds, which a rollback would leave poisoned.
    """

    def __init__(self, inner: Strategy, guard: Guard) -> None:
        super().__init__()
        if isinstance(inner, FedAvgM | FedOpt):
            raise ConfigError(
                "expected a strategy that remembers nothing of earlier rounds, such as FedAvg; got a "
                f"{type(inner).__name__}"
            )
        self.inner, self.guard = inner, guard
        self.decisions: list[Decision] = []
        model = guard.model if isinstance(guard.model, nn.Module) else guard.model()
        self._own: dict[str, Tensor] = model.state_dict()
        arrays = ArrayRecord([value.detach().cpu().numpy() for value in self._own.values()])
        self._layout = ArrayLayout.between(arrays, self._own)
        self._sent: Parameters | None = None
        self._stopped = False

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """The model accepted last; without one, the inner strategy's parameters."""
        released = self.guard.released()
        if released is not None:
            return self._parameters(released)
        return self.inner.initialize_parameters(client_manager)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """The inner strategy's clients; none once the guard has said stop."""
        self._sent = parameters
        return [] if self._stopped else self.inner.configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(
        self, server_round: int, results: _Results, failures: _Failures
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """The parameters that the next round starts from; those that were sent if nothing is trusted yet."""
        parameters, metrics = self.inner.aggregate_fit(server_round, results, failures)
        if parameters is None:
            return self._sent, metrics
        decision = self.guard.review(self._state(parameters), (self.guard.last_round or 0) + 1)
        self.decisions.append(decision)
        self._stopped = decision.stop
        log(
            INFO if decision.action in ("accept", "hold") else WARNING,
            "guard: round %s: %s (%s). %s",
            decision.round,
            decision.action,
            decision.verdict,
            printable(decision.reason),
        )
        onwards = decision.continue_from
        return self._sent if onwards is None else self._parameters(onwards), metrics

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """The inner strategy's clients; none once the guard has said stop."""
        return (
            [] if self._stopped else self.inner.configure_evaluate(server_round, parameters, client_manager)
        )

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """The inner strategy's."""
        return self.inner.aggregate_evaluate(server_round, results, failures)

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, Scalar]] | None:
        """The inner strategy's, of the model after the review."""
        return self.inner.evaluate(server_round, parameters)

    def _state(self, parameters: Parameters) -> State:
        """The ``state_dict`` of aggregated parameters; an array too many is passed on, for the guard to refuse."""
        return self._layout.state(ArrayRecord(parameters_to_ndarrays(parameters)))

    def _parameters(self, state: State) -> Parameters:
        return ndarrays_to_parameters(self._layout.record(state).to_numpy_ndarrays())
