"""A client's local training: the hot loop of every simulation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.errors import ModelError
from fedmend.federation.config import TrainingConfig
from fedmend.pixels import to_float


def train(model: nn.Module, images: Tensor, labels: Tensor, config: TrainingConfig, seed: int) -> None:
    """Train ``model`` in place on images uint8 (N, C, H, W) and labels int64 (N,), all on the model's device.

    The global random generators are left as found; dropout and the order of batches depend on ``seed`` alone.
    The last batch of an epoch is left out if it has a single image, which BatchNorm can't train on.

    Raises:
        ModelError: the loss became NaN or infinite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = images.device.type in ("cpu", "cuda")
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, config.lr, weight_decay=config.weight_decay, fused=fused)
    else:
        optimizer = torch.optim.SGD(
            parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
        )
    devices = [images.device] if images.device.type == "cuda" else []
    loss = torch.zeros(())
    model.train()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for _ in range(config.epochs):
            order = torch.randperm(len(images)).to(images.device)
            for batch in order.split(config.batch_size):
                if len(batch) == 1 and len(images) > 1:
                    continue
                optimizer.zero_grad()
                loss = cross_entropy(model(to_float(images[batch])), labels[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    if not bool(loss.isfinite()):
        raise ModelError("local training diverged: the loss is NaN or infinite; try a smaller [training] lr")
