"""Aggregation rules: the clients' deltas of one round to one delta of the global model."""

from fedmend.aggregation.rules import fedavg, trimmed_mean, uniform_fedavg

__all__ = ["fedavg", "trimmed_mean", "uniform_fedavg"]
