"""Aggregation rules: from the clients' deltas of one round to one delta of the global model. One rule per file."""

from collections.abc import Callable, Mapping
from typing import Any

from fedmend.aggregation.base import Aggregator, State, Updates
from fedmend.aggregation.fedavg import FedAvg, UniformFedAvg, uniform_mean, weighted_mean
from fedmend.aggregation.fedavgm import FedAvgM
from fedmend.aggregation.trimmed_mean import TrimmedMean, mean_between
from fedmend.errors import ConfigError
from fedmend.kinds import from_table

AGGREGATORS: dict[str, Callable[..., Aggregator]] = {
    "fedavg": FedAvg,
    "uniform": UniformFedAvg,
    "trimmed-mean": TrimmedMean,
    "fedavgm": FedAvgM,
}


def aggregator_from_table(table: Mapping[str, Any]) -> Aggregator:
    """The rule of an ``[aggregation]`` table: ``kind`` is a name above or ``package.module:factory``.

    Raises:
        ConfigError: the kind or one of its settings is unknown or out of range, or the user's own factory fails or
            returns something that isn't callable.
    """
    rule = from_table(table, AGGREGATORS, "aggregation rule")
    if not callable(rule):
        raise ConfigError(
            f"the aggregation rule {table['kind']} is of type {type(rule).__name__}; expected a callable from updates "
            "and state to a delta and a state"
        )
    return rule  # type: ignore[no-any-return]


__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "FedAvg",
    "FedAvgM",
    "State",
    "TrimmedMean",
    "UniformFedAvg",
    "Updates",
    "aggregator_from_table",
    "mean_between",
    "uniform_mean",
    "weighted_mean",
]
