"""Three clients. The first sends NaN in round 2, dies in round 3 and never answers a vote; the second votes garbage."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from faulty.task import MarkedNet, client_data
from fedmend.integrations.flower import answer_votes
from fedmend.integrations.flower.vote_messages import Question, reply_content

SILENT, GARBAGE = 0, 1


def faults(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    client = context.node_config["partition-id"]
    if Question.is_in(message.content) and client == SILENT:
        time.sleep(600)
    if Question.is_in(message.content) and client == GARBAGE:
        return Message(reply_content(torch.zeros(2, dtype=torch.uint8)), reply_to=message)
    return call_next(message, context)


app = ClientApp(mods=[faults, answer_votes(client_data, MarkedNet)])


@app.train()
def train(message: Message, context: Context) -> Message:
    number = message.content["config"]["server-round"]
    arrays = dict(message.content["arrays"].items())
    arrays["mark"] = Array(arrays["mark"].numpy() + 1)
    if context.node_config["partition-id"] == SILENT and number == 2:
        arrays["mark"] = Array(np.full(1, np.nan, np.float32))
    if context.node_config["partition-id"] == SILENT and number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    metrics = MetricRecord({"num-examples": 8})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)
