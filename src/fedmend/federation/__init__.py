"""Federations under attack, simulated on one machine."""

from fedmend.federation.client import Client, ClientUpdate, HonestClient, MaliciousClient
from fedmend.federation.config import (
    AttackConfig,
    DataConfig,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
    TrainingConfig,
    parse_config,
    read_config,
)
from fedmend.federation.pruning import PAPER_RECIPE, FederatedPruning, last_model
from fedmend.federation.run_folder import RoundRecord, RunFolder
from fedmend.federation.simulator import simulate

__all__ = [
    "PAPER_RECIPE",
    "AttackConfig",
    "Client",
    "ClientUpdate",
    "DataConfig",
    "FederatedPruning",
    "FederationConfig",
    "HonestClient",
    "MaliciousClient",
    "ModelConfig",
    "RoundRecord",
    "RunFolder",
    "SimulationConfig",
    "TrainingConfig",
    "last_model",
    "parse_config",
    "read_config",
    "simulate",
]
