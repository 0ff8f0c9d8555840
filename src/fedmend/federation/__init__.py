"""Federations under attack, simulated on one machine."""

from fedmend.federation.attack_config import AttackConfig
from fedmend.federation.attacker_folder import AttackerFolder, AttackRecord, patch_of
from fedmend.federation.attackers import PlannedAttack, load_attacks
from fedmend.federation.changes import changed
from fedmend.federation.client_fit import Refused, RoundPlan
from fedmend.federation.clients import Client, ClientUpdate, Task
from fedmend.federation.config import DataConfig, FederationConfig, ModelConfig, SimulationConfig
from fedmend.federation.config_reading import parse_config, read_config
from fedmend.federation.reviews import Review, Reviewed
from fedmend.federation.rounds import Collected, Server, apply_delta, collect, next_model, run_round
from fedmend.federation.run_folder import RoundRecord, RunFolder, simulated_config
from fedmend.federation.secure_sums import SecureSums
from fedmend.federation.simulator import Execution, initial_model, simulate
from fedmend.federation.world import Federation, build_federation, choose_clients, load_federation

__all__ = [
    "AttackConfig",
    "AttackRecord",
    "AttackerFolder",
    "Client",
    "ClientUpdate",
    "Collected",
    "DataConfig",
    "Execution",
    "Federation",
    "FederationConfig",
    "ModelConfig",
    "PlannedAttack",
    "Refused",
    "Review",
    "Reviewed",
    "RoundPlan",
    "RoundRecord",
    "RunFolder",
    "SecureSums",
    "Server",
    "SimulationConfig",
    "Task",
    "apply_delta",
    "build_federation",
    "changed",
    "choose_clients",
    "collect",
    "initial_model",
    "load_attacks",
    "load_federation",
    "next_model",
    "parse_config",
    "patch_of",
    "read_config",
    "run_round",
    "simulate",
    "simulated_config",
]
