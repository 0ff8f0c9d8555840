"""A guarded federation and a vote; what came of them is written beside the history."""

from __future__ import annotations

import json
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from faulty.task import SHAPE, MarkedNet, dark_and_bright
from fedmend.guard import Guard, GuardPolicy, digest
from fedmend.integrations.flower import GuardedStrategy, remote_participants
from fedmend.repairs import Context as RepairContext
from fedmend.repairs import FederatedPruning

app = ServerApp()
PATIENCE = 20.0


@app.main()
def main(grid: Grid, context: Context) -> None:
    history = Path(str(context.run_config["history"]))
    policy = GuardPolicy.from_table(
        {"detectors": [{"kind": "faulty.task:make"}], "warm_up": 1, "repair": "none", "older_references": []}
    )
    images, labels = dark_and_bright()
    guard = Guard(policy, model=MarkedNet, images=images, labels=labels, history=history, seed=1)
    rounds = int(context.run_config["rounds"]) - (guard.last_round or 0)
    strategy = GuardedStrategy(FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3), guard)
    result = strategy.start(grid, ArrayRecord(MarkedNet().state_dict()), rounds, timeout=PATIENCE)
    participants = remote_participants(grid, SHAPE, timeout=PATIENCE)
    recipe = FederatedPruning(fine_tuning_rounds=0, timeout=2 * PATIENCE)
    candidate = recipe(MarkedNet(), [], RepairContext(participants=participants))
    released = guard.released()
    outcome = {
        "released": None if released is None else digest(released),
        "result": digest(result.arrays.to_torch_state_dict()),
        "refused": [
            int(result.train_metrics_clientapp[number]["guard-refused-replies"])
            for number in sorted(result.train_metrics_clientapp)
        ],
        "ballots": candidate.details.ballots,
    }
    (history.parent / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")
