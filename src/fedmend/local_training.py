"""A client's local training, the hot loop of every simulation."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from fedmend.checked_settings import Count, NonNegative, Positive, settings
from fedmend.errors import DataError, DivergedError, ModelError
from fedmend.pixels import to_float
from fedmend.pruning import locate
from fedmend.seeds import seeded

BelowOne = Annotated[float, Field(ge=0, lt=1, strict=True)]


class Steering(Protocol):
    """What an attacker changes in each step of its training."""

    def loss(self, model: nn.Module, loss: Tensor) -> Tensor:
        """What to minimise, given the batch's loss: a scalar."""
        ...

    def before_step(self, model: nn.Module) -> None:
        """Change the parameters' gradients in place, before the optimizer uses them."""
        ...


@settings
class LocalTraining:
    """Training on a client's own images. Every call starts a new optimizer.

    Attributes:
        epochs: passes over the images.
        batch_size: images per step.
        optimizer: "adam" or "sgd".
        lr: learning rate.
        momentum: of SGD, in [0, 1).
        weight_decay: of both optimizers.
        images_per_epoch: random images per epoch; None: all.
        last_conv_l2: weight, in the loss, of the squared L2 norm of the last convolution's weights (federated-pruning
            paper, 6.1).
        pixel_noise: the largest fraction, in [0, 1), of an image's pixels that noise replaces (see :func:`noisy`).

    Raises:
        ConfigError: a setting is out of range.
    """

    epochs: Count = 3
    batch_size: Count = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Positive = 0.001
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0
    images_per_epoch: Count | None = None
    last_conv_l2: NonNegative = 0.0
    pixel_noise: BelowOne = 0.0

    @property
    def training(self) -> LocalTraining:
        """This training, for use as a :class:`fedmend.federation.Task`."""
        return self

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, seed: int, steering: Steering | None = None
    ) -> None:
        """Train ``model`` in place.

        The global random generators are left as found: dropout and the order of batches depend only on ``seed``. An
        epoch's last batch is skipped if it has a single image. Where a batch must be of a single image, and BatchNorm
        can't compute statistics of it, it uses its running ones, which then stay as they are.

        Args:
            model: left in train mode.
            images: uint8 (N, C, H, W), on the model's device.
            labels: classes, int64 (N,), or soft labels, float (N, classes); on the same device.
            seed: of all randomness.
            steering: changes the loss and the gradients; None: plain training.

        Raises:
            DataError: N is 0. DivergedError: the loss became NaN or infinite.
            ModelError: the model can't be trained on a single image.
        """
        if len(images) == 0:
            raise DataError("local training needs at least one image; got none")
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = self._optimizer(parameters, fused=images.device.type in ("cpu", "cuda"))
        loss = torch.zeros(())
        penalized = locate(model, images).convolution.weight if self.last_conv_l2 else None
        model.train()
        with seeded(seed, images.device):
            for _ in range(self.epochs):
                order = torch.randperm(len(images))[: self.images_per_epoch].to(images.device)
                for batch in torch.split(order, self.batch_size):
                    if len(batch) == 1 < min(len(order), self.batch_size):
                        continue
                    optimizer.zero_grad()
                    pixels = to_float(images[batch])
                    if self.pixel_noise:
                        pixels = noisy(pixels, self.pixel_noise)
                    loss = cross_entropy(_logits(model, pixels), labels[batch])
                    if penalized is not None:
                        loss = loss + self.last_conv_l2 * penalized.square().sum()
                    if steering is not None:
                        loss = steering.loss(model, loss)
                    loss.backward()
                    if steering is not None:
                        steering.before_step(model)
                    optimizer.step()
        if not bool(loss.isfinite()):
            raise DivergedError(
                "local training diverged: the loss is NaN or infinite; try a smaller [training] lr"
            )

    def _optimizer(self, parameters: list[nn.Parameter], *, fused: bool) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, self.lr, weight_decay=self.weight_decay, fused=fused)
        return torch.optim.SGD(
            parameters, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=fused
        )


def noisy(pixels: Tensor, largest: float) -> Tensor:
    """Replace pixels with noise: a quarter of them black, a quarter white, the rest uniform.

    All channels of a pixel are replaced, with independent values. The fraction of replaced pixels is drawn for each
    image, between 0 and ``largest``. Draws from the global generator.
    """
    fraction = largest * torch.rand(len(pixels), 1, 1, 1, device=pixels.device)
    hit = torch.rand_like(pixels[:, :1]) < fraction
    return torch.where(hit, (2 * torch.rand_like(pixels) - 0.5).clamp(0, 1), pixels)


def _logits(model: nn.Module, pixels: Tensor) -> Tensor:
    if len(pixels) > 1:
        return model(pixels)  # type: ignore[no-any-return]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        return model(pixels)  # type: ignore[no-any-return]
    except ValueError as error:
        for buffer, before in buffers:  # of BatchNorm's layers before the one that failed
            buffer.copy_(before)
        norms = [each for each in model.modules() if isinstance(each, _BatchNorm) and each.training]
        try:
            for norm in norms:
                norm.eval()
            return model(pixels)  # type: ignore[no-any-return]
        except ValueError:
            raise ModelError(
                f"the model can't be trained on a single image ({error}); try a larger [training] batch_size, or "
                "fewer clients or another [data] partition, so that no client has only one image"
            ) from error
        finally:
            for norm in norms:
                norm.train()
