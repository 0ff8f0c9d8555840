"""A federation of three clients in FLARE's simulator, whose server has a guard."""

from __future__ import annotations

import argparse
from pathlib import Path

from network import Network
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.client.config import TransferType
from nvflare.recipe import SimEnv

from fedmend.integrations.nvflare import GuardedAggregator, ship_guard

HERE = Path(__file__).parent
CLIENTS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--first-attack", type=int, default=6)
    parser.add_argument("--policy", type=Path, default=HERE / "policy.toml")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    parser.add_argument(
        "--differences", action="store_true", help="clients send differences, not full weights"
    )
    settings = parser.parse_args()
    recipe = FedAvgRecipe(
        name="guarded",
        model=Network(),
        min_clients=CLIENTS,
        num_rounds=settings.rounds,
        train_script=str(HERE / "client.py"),
        train_args=f"--epochs {settings.epochs} --first-attack {settings.first_attack}",
        params_transfer_type=TransferType.DIFF if settings.differences else TransferType.FULL,
        aggregator=GuardedAggregator("server_guard:make"),
    )
    ship_guard(recipe, HERE / "server_guard.py", settings.policy)
    recipe.execute(SimEnv(num_clients=CLIENTS, workspace_root=str(settings.workspace.resolve())))


if __name__ == "__main__":
    main()
