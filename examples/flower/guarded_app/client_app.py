"""The clients. The first is malicious from a round on."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedmend.integrations.flower import answer_votes
from guarded_app.task import accuracy, client_data, make_model, poisoned, train

app = ClientApp(mods=[answer_votes(client_data, make_model)])


@app.train()
def fit(message: Message, context: Context) -> Message:
    settings = context.run_config
    model, (images, labels) = make_model(), client_data(context)
    before = message.content["arrays"].to_torch_state_dict()
    model.load_state_dict(before)
    parts = int(context.node_config["num-partitions"])
    attacks = (
        context.node_config["partition-id"] == 0
        and message.content["config"]["server-round"] >= settings["first-attack"]
    )
    torch.manual_seed(int(message.content["config"]["server-round"]))
    if attacks:
        images, labels = poisoned(images, labels)
    loss = train(model, images, labels, int(settings["local-epochs"]), float(settings["learning-rate"]))
    state = model.state_dict()
    if attacks:  # so large that the average becomes the attacker's model
        state = {name: before[name] + parts * (value - before[name]) for name, value in state.items()}
    metrics = MetricRecord({"train-loss": loss, "num-examples": len(client_data(context)[1])})
    return Message(RecordDict({"arrays": ArrayRecord(state), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    model, (images, labels) = make_model(), client_data(context)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    metrics = MetricRecord({"accuracy": accuracy(model, images, labels), "num-examples": len(labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
