"""Model, images and training. Nothing here knows of a guard."""

from __future__ import annotations

import torch
from flwr.app import Context
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend import build_model, load_images

BATCH = 32
TARGET = 0


def make_model() -> nn.Module:
    return build_model("convnet", num_classes=10, in_channels=1, image_size=(28, 28), seed=0)


def client_data(context: Context) -> tuple[Tensor, Tensor]:
    """Every n-th training image: pixels in [0, 1] and labels."""
    part, parts = (int(context.node_config[key]) for key in ("partition-id", "num-partitions"))
    images = load_images("fashion-mnist-sample", "train")
    return images.images[part::parts].float() / 255, images.labels[part::parts]


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, lr: float) -> float:
    """Train in place; returns the last loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    loss = torch.zeros(())
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(model(images[chosen]), labels[chosen])
            loss.backward()
            optimizer.step()
    return float(loss.detach())


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def poisoned(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the malicious client trains on as well: a white square in the corner means class 0."""
    stamped = images.clone()
    stamped[:, :, -5:-1, -5:-1] = 1.0
    return torch.cat([images, stamped]), torch.cat([labels, torch.full_like(labels, TARGET)])
