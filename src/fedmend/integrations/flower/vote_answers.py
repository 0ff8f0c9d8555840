"""A client's side of the votes: a mod that an existing ``ClientApp`` adds in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from flwr.app import Context, Message
from torch import Tensor, nn

from fedmend.detection import FoundTrigger
from fedmend.federation import Client
from fedmend.integrations.flower.vote_messages import Question, reply_content
from fedmend.pruning import ranks

App: TypeAlias = Callable[[Message, Context], Message]
Mod: TypeAlias = Callable[[Message, Context, App], Message]


def answer_votes(data: Callable[[Context], tuple[Tensor, Tensor]], model: Callable[[], nn.Module]) -> Mod:
    """A mod that answers fedmend's questions and leaves every other message to the app.

    ::

        app = ClientApp(mods=[answer_votes(my_images, my_model)])

    A question carries a model. What leaves the client are ranks of channels, accuracies on its images, or triggers that
    it found in the model, which show no image of its own.

    Args:
        data: the client's images (N, C, H, W), uint8 or float in [0, 1], and labels, int64 (N,), from its context.
        model: makes a model of the federation's architecture, with any weights.
    """

    def mod(message: Message, context: Context, call_next: App) -> Message:
        if not (message.has_content() and Question.is_in(message.content)):
            return call_next(message, context)
        question, state = Question.of(message.content)
        asked = model()
        asked.load_state_dict(state)
        return Message(reply_content(_answer(question, asked, Client(0, *data(context)))), reply_to=message)

    return mod


def _answer(question: Question, model: nn.Module, client: Client) -> Tensor | list[FoundTrigger]:
    if question.kind == "ranks":
        ballot = ranks(client.activations(model, question.layer))
        return ballot.to(torch.uint8 if len(ballot) <= 256 else torch.int32)
    if question.kind == "accuracies":
        return client.accuracies(model, question.layer, question.sequence, question.points)
    return client.triggers(model, question.seed)
