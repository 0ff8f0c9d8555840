"""A guard around any of Flower's strategies."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from logging import ERROR, INFO, WARNING, getLogger
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import nn

from fedmend.errors import ConfigError, OutputError
from fedmend.guard import digest
from fedmend.integrations.flower.array_layout import ArrayLayout
from fedmend.integrations.flower.reply_checks import model_flaw, no_flaw, usable
from fedmend.integrations.flower.strategy_memory import (
    StrategyMemory,
    forget_global_arrays,
    with_wrapped,
)
from fedmend.terminal_text import printable

if TYPE_CHECKING:
    from fedmend.guard import Decision, Guard
    from fedmend.guard.weights import State

ACTIONS = ("accept", "repair", "rollback", "hold")
_WEIGHTED_BY = "num-examples"

log = getLogger("flwr").log


class GuardedStrategy(Strategy):
    """A strategy whose aggregated model a guard reviews before any client or caller gets it.

    The review is in :meth:`aggregate_train`: Flower calls ``evaluate_fn`` later and lets it change nothing. After a
    rollback the next round starts from the last accepted model, and the inner strategy's memory (momentum, say) is what
    it was when that model was accepted. After a repair, or a rollback to an older model, it is what it was at the
    start. Replies that hold something other than a model of the federation are left out of the aggregation.

    A started federation goes on from the guard's history: from the model accepted last, not from ``initial_arrays``,
    and with the next round's number. ``Result.arrays`` is the model accepted last. If there is none, it is
    ``initial_arrays``, for which nobody vouches.

    Each round's ``MetricRecord`` says what happened: ``guard-action`` (0 accept, 1 repair, 2 rollback, 3 hold),
    ``guard-released`` (1 if there is a model that the guard vouches for), ``guard-stop`` and ``guard-refused-replies``.

    A round whose decision can't be written, since the disk is full, counts as rolled back.

    Args:
        inner: chooses the clients and aggregates, as without a guard.
        guard: made for the model whose ``state_dict``, or list of arrays in its order, the federation sends around.

    Attributes:
        decisions: the guard's, of the rounds since this object was made.

    Raises:
        ConfigError: from ``start``: the initial arrays don't hold the guard's model. What ``Guard.review`` raises.
    """

    def __init__(self, inner: Strategy, guard: Guard) -> None:
        super().__init__()
        self.inner, self.guard = inner, guard
        self.decisions: list[Decision] = []
        self._layout: ArrayLayout | None = None
        self._sent = ArrayRecord()
        self._first_memory: StrategyMemory | None = None
        self._accepted: tuple[State | None, StrategyMemory | None] = (None, None)
        self._rounds_before: int | None = None
        self._stopped = False

    def summary(self) -> None:
        """Log the guard's last round and the inner strategy's summary."""
        last = self.guard.last_round
        log(INFO, "\t├──> Guard: %s", "no decision yet" if last is None else f"goes on after round {last}")
        self.inner.summary()

    def start(self, grid: Grid, initial_arrays: ArrayRecord, *args: Any, **options: Any) -> Result:
        """Run the federation as ``Strategy.start`` does, from the model that the guard accepted last, if any."""
        self._rounds_before, self._stopped = None, False
        self._layout = ArrayLayout.between(initial_arrays, self._model().state_dict())
        first = self._released() or initial_arrays
        result = super().start(grid, first, *args, **options)
        result.arrays = self._released() or first
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages; none once the guard has said stop."""
        if self._layout is None:
            self._layout = ArrayLayout.between(arrays, self._model().state_dict())
        if self._rounds_before is None:
            self._rounds_before = max(0, (self.guard.last_round or 0) - server_round + 1)
        if self._first_memory is None:
            self._first_memory = StrategyMemory.of(self.inner)
        self._sent = arrays
        if self._stopped:
            return []
        return self.inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The model that the next round starts from, and the round's metrics with the guard's decision.

        Without a candidate, since no reply could be used, the model stays as it was sent.
        """
        if self._layout is None or self._first_memory is None:
            raise ConfigError("aggregate_train was called before configure_train; call start()")
        if self._stopped:
            return self._sent, None
        kept, refused = usable(replies, partial(model_flaw, layout=self._layout), self._weighted_by())
        _log_refused(refused)
        arrays, metrics = self.inner.aggregate_train(server_round, kept)
        if arrays is None:
            return self._sent, _with_counts(metrics, {"guard-refused-replies": len(refused)})
        try:
            decision = self._review(server_round, self._layout, arrays)
        except OutputError as error:
            log(
                ERROR,
                "guard: round %s can't be recorded, so its model isn't released: %s",
                server_round,
                error,
            )
            return self._unrecorded(), _with_counts(metrics, {"guard-action": ACTIONS.index("rollback")})
        counts = {
            "guard-action": ACTIONS.index(decision.action),
            "guard-released": int(decision.released is not None),
            "guard-stop": int(decision.stop),
            "guard-refused-replies": len(refused),
        }
        onwards = decision.continue_from
        return self._sent if onwards is None else self._layout.record(onwards), _with_counts(metrics, counts)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages; none once the guard has said stop."""
        return [] if self._stopped else self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's metrics, of the replies that can be used."""
        kept, refused = usable(replies, no_flaw, self._weighted_by())
        _log_refused(refused)
        return self.inner.aggregate_evaluate(server_round, kept)

    def should_stop(self, *args: Any, **options: Any) -> bool:
        """Whether the guard has said stop, for versions of Flower that ask."""
        return self._stopped

    def _review(self, server_round: int, layout: ArrayLayout, arrays: ArrayRecord) -> Decision:
        """Let the guard decide, and bring the inner strategy's memory in line with the decision."""
        number = server_round + (self._rounds_before or 0)
        decision = self.guard.review(layout.state(arrays), number)
        self.decisions.append(decision)
        log(
            INFO if decision.action in ("accept", "hold") else WARNING,
            "guard: round %s: %s (%s). %s",
            number,
            decision.action,
            decision.verdict,
            printable(decision.reason),
        )
        if decision.action == "accept":
            self._accepted = (decision.released, StrategyMemory.of(self.inner))
        elif decision.action != "hold":
            self._go_back_to(decision.released)
        if decision.stop:
            self._stopped = True
            log(WARNING, "guard: stop. No client trains from here on.")
        return decision

    def _unrecorded(self) -> ArrayRecord:
        """The model to go on with after a round that the guard couldn't write down: the last accepted one."""
        state = self.guard.released()
        self._go_back_to(state)
        return self._sent if state is None or self._layout is None else self._layout.record(state)

    def _go_back_to(self, state: State | None) -> None:
        """Put the inner strategy's memory back: that of this model, if it was accepted as it came, or of the start."""
        assert self._first_memory is not None
        accepted, memory = self._accepted
        same = accepted is not None and state is not None and digest(accepted) == digest(state)
        (memory if same and memory is not None else self._first_memory).restore()
        forget_global_arrays(self.inner)

    def _released(self) -> ArrayRecord | None:
        """The model that the guard accepted last."""
        state = self.guard.released()
        return None if state is None or self._layout is None else self._layout.record(state)

    def _model(self) -> nn.Module:
        model = self.guard.model
        return model if isinstance(model, nn.Module) else model()

    def _weighted_by(self) -> str:
        keys = (getattr(each, "weighted_by_key", None) for each in with_wrapped(self.inner))
        return next((key for key in keys if key is not None), _WEIGHTED_BY)


def _with_counts(metrics: MetricRecord | None, counts: dict[str, int]) -> MetricRecord:
    return MetricRecord({**(metrics or {}), **counts})


def _log_refused(refused: dict[int, str]) -> None:
    for node, flaw in refused.items():
        log(WARNING, "guard: the reply of node %s is left out: %s", node, flaw)
