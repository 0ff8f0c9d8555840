"""Aggregation rules: from the clients' deltas of one round to one delta of the global model. One rule per file."""

from collections.abc import Callable, Mapping
from typing import Any

from fedmend.aggregation.base import Aggregator, Preparation, State, Updates
from fedmend.aggregation.bulyan import Bulyan
from fedmend.aggregation.chain import Chain
from fedmend.aggregation.columns import mapped_deltas
from fedmend.aggregation.coordinate_median import CoordinateMedian
from fedmend.aggregation.fedavg import FedAvg, UniformFedAvg, uniform_mean, weighted_mean
from fedmend.aggregation.fedavgm import FedAvgM
from fedmend.aggregation.flame import FLAME
from fedmend.aggregation.fltrust import FLTrust
from fedmend.aggregation.foolsgold import FoolsGold
from fedmend.aggregation.geometric_median import GeometricMedian
from fedmend.aggregation.krum import Krum, MultiKrum
from fedmend.aggregation.norm_clipping import Clip, NormClipping
from fedmend.aggregation.running_mean import RunningMean
from fedmend.aggregation.spectral import Spectral
from fedmend.aggregation.trimmed_mean import TrimmedMean, mean_between
from fedmend.errors import ConfigError
from fedmend.kinds import from_table

AGGREGATORS: dict[str, Callable[..., Aggregator]] = {
    "fedavg": FedAvg,
    "uniform": UniformFedAvg,
    "trimmed-mean": TrimmedMean,
    "fedavgm": FedAvgM,
    "median": CoordinateMedian,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "bulyan": Bulyan,
    "rfa": GeometricMedian,
    "foolsgold": FoolsGold,
    "norm-clipping": NormClipping,
    "fltrust": FLTrust,
    "flame": FLAME,
    "spectral": Spectral,
    "chain": Chain,
}

PREPARATIONS: dict[str, Callable[..., Preparation]] = {
    "clip": Clip,
    "multi-krum": MultiKrum,
    "spectral": Spectral,
}
"""Steps before a rule, by the names that a chain's tables use."""


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


def preparation_from_table(table: Mapping[str, Any]) -> Preparation:
    """The step before a rule that a table describes: ``kind`` is a name above or ``package.module:factory``.

    Raises:
        ConfigError: see :func:`aggregator_from_table`; or there is no method ``prepare``.
    """
    step = from_table(table, PREPARATIONS, "step before an aggregation rule")
    if not callable(getattr(step, "prepare", None)):
        raise ConfigError(
            f"the step before an aggregation rule {table['kind']} must have a method prepare(updates); got a "
            f"{type(step).__name__}"
        )
    return step  # type: ignore[no-any-return]


__all__ = [
    "AGGREGATORS",
    "FLAME",
    "PREPARATIONS",
    "Aggregator",
    "Bulyan",
    "Chain",
    "Clip",
    "CoordinateMedian",
    "FLTrust",
    "FedAvg",
    "FedAvgM",
    "FoolsGold",
    "GeometricMedian",
    "Krum",
    "MultiKrum",
    "NormClipping",
    "Preparation",
    "RunningMean",
    "Spectral",
    "State",
    "TrimmedMean",
    "UniformFedAvg",
    "Updates",
    "aggregator_from_table",
    "mapped_deltas",
    "mean_between",
    "preparation_from_table",
    "uniform_mean",
    "weighted_mean",
]
