"""A client's local training: the hot loop of every simulation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.errors import ModelError
from fedmend.federation.config import TrainingConfig
from fedmend.pixels import to_float
from fedmend.pruning import locate


def train(model: nn.Module, images: Tensor, labels: Tensor, config: TrainingConfig, seed: int) -> None:
    """Train ``model`` in place on images uint8 (N, C, H, W) and labels, all on the model's device.

    Labels are classes, int64 (N,), or soft ones, float (N, classes).

    The global random generators are left as found; dropout and the order of batches depend on ``seed`` alone.
    The last batch of an epoch is left out if a single image is left over, which BatchNorm can't train on.

    Raises:
        ModelError: the loss became NaN or infinite, or a single image is all there is and the model needs more.
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
    penalized = locate(model, images).convolution.weight if config.last_conv_l2 else None
    model.train()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for _ in range(config.epochs):
            order = torch.randperm(len(images))[: config.images_per_epoch].to(images.device)
            for batch in torch.split(order, config.batch_size):
                if len(batch) == 1 < min(len(order), config.batch_size):
                    continue
                optimizer.zero_grad()
                pixels = to_float(images[batch])
                if config.pixel_noise:
                    pixels = noisy(pixels, config.pixel_noise)
                loss = cross_entropy(_answer(model, pixels), labels[batch])
                if penalized is not None:
                    loss = loss + config.last_conv_l2 * penalized.square().sum()
                loss.backward()
                optimizer.step()
    if not bool(loss.isfinite()):
        raise ModelError("local training diverged: the loss is NaN or infinite; try a smaller [training] lr")


def noisy(pixels: Tensor, largest: float) -> Tensor:
    """Replace pixels, in all channels at once: a quarter of them by black, a quarter by white, the others by chance.

    Of each image another share of the pixels, between 0 and ``largest``.
    """
    share = largest * torch.rand(len(pixels), 1, 1, 1, device=pixels.device)
    hit = torch.rand_like(pixels[:, :1]) < share
    return torch.where(hit, (2 * torch.rand_like(pixels) - 0.5).clamp(0, 1), pixels)


def _answer(model: nn.Module, pixels: Tensor) -> Tensor:
    try:
        logits: Tensor = model(pixels)
    except ValueError as error:
        if len(pixels) > 1:
            raise
        raise ModelError(
            f"the model can't be trained on a single image ({error}); take a larger [training] batch_size, or "
            "fewer clients or another [data] partition, so that none has one image only"
        ) from error
    return logits
