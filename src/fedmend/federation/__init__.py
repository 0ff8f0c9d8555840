"""Federations under attack, simulated on one machine."""

from fedmend.federation.clients import Client, ClientUpdate, HonestClient, MaliciousClient
from fedmend.federation.config import (
    AttackConfig,
    DataConfig,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
    parse_config,
    read_config,
)
from fedmend.federation.run_folder import RoundRecord, RunFolder
from fedmend.federation.simulator import simulate

__all__ = [
    "AttackConfig",
    "Client",
    "ClientUpdate",
    "DataConfig",
    "FederationConfig",
    "HonestClient",
    "MaliciousClient",
    "ModelConfig",
    "RoundRecord",
    "RunFolder",
    "SimulationConfig",
    "parse_config",
    "read_config",
    "simulate",
]
