"""The server."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedmend import Guard, GuardPolicy, load_images
from fedmend.integrations.flower import GuardedStrategy
from guarded_app.task import make_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    rounds = int(context.run_config["num-server-rounds"])
    model = make_model()
    strategy = FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3)
    own, history = load_images("fashion-mnist-sample", "test"), str(context.run_config["history"])
    policy = GuardPolicy(warm_up=int(context.run_config["warm-up"]))
    guard = Guard(policy, model=model, images=own.images, labels=own.labels, history=history)
    strategy = GuardedStrategy(strategy, guard)
    result = strategy.start(grid, ArrayRecord(model.state_dict()), rounds)
    torch.save(result.arrays.to_torch_state_dict(), "final_model.pt")
