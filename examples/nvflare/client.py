"""A client. The first is malicious from a round on: a white square in the corner means class 0."""

from __future__ import annotations

import argparse

import torch
from network import Network
from nvflare.apis.fl_constant import FLMetaKey
from torch.nn.functional import cross_entropy

import nvflare.client as flare
from fedmend import load_images

BATCH, CLIENTS = 32, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--first-attack", type=int, default=6)
    settings = parser.parse_args()
    flare.init()
    part = int(flare.get_site_name().removeprefix("site-")) - 1
    sample = load_images("fashion-mnist-sample", "train")
    images, labels = sample.images[part::CLIENTS].float() / 255, sample.labels[part::CLIENTS]
    model = Network()
    while flare.is_running():
        received = flare.receive()
        before = {name: torch.as_tensor(value) for name, value in received.params.items()}
        model.load_state_dict(before)
        number = received.current_round + 1  # FLARE counts from 0
        attacks = part == 0 and number >= settings.first_attack
        torch.manual_seed(number)
        steps = train(model, *(poisoned(images, labels) if attacks else (images, labels)), settings.epochs)
        state = model.state_dict()
        if attacks:  # so large that the average becomes the attacker's model
            steps = len(images) // BATCH * settings.epochs
            state = {name: before[name] + CLIENTS * (value - before[name]) for name, value in state.items()}
        flare.send(flare.FLModel(params=state, meta={FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps}))


def train(model: Network, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> int:
    """Train in place; returns the number of steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    model.train()
    steps = 0
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            steps += 1
    return steps


def poisoned(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    stamped = images.clone()
    stamped[:, :, -5:-1, -5:-1] = 1.0
    return torch.cat([images, stamped]), torch.cat([labels, torch.zeros_like(labels)])


if __name__ == "__main__":
    main()
