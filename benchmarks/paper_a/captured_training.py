"""Local training for a GPU: bfloat16, channels-last, images on the device, steps captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.errors import DivergedError
from fedmend.federation import Client, ClientUpdate, RoundPlan
from fedmend.local_training import LocalTraining
from fedmend.seeds import generator

_WARM_UP = 3
"""Steps before a capture, as torch asks for."""


class CapturedTraining:
    """Trains any model of one architecture as :class:`LocalTraining` does with Adam, faster and with other rounding.

    One copy of the network, its optimizer and one captured step serve all clients: their weights are copied in and out,
    and Adam starts afresh. An epoch's last, smaller batch is left out. On a CPU nothing is captured.

    Args:
        model: the network, on the device.
        most: images that a client may have, stamped copies included.
        settings: epochs, batch size, learning rate and images per epoch.
    """

    def __init__(self, model: nn.Module, most: int, settings: LocalTraining) -> None:
        self.settings = settings
        self._model = deepcopy(model).train()
        self._device = next(model.parameters()).device
        captured = self._device.type == "cuda"
        self._adam = torch.optim.Adam(self._model.parameters(), settings.lr, capturable=captured)
        self._most = most
        self._images: Tensor | None = None
        self._labels = torch.zeros(most, dtype=torch.int64, device=self._device)
        self._batch = torch.zeros(settings.batch_size, dtype=torch.int64, device=self._device)
        self._loss = torch.zeros((), device=self._device)
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def training(self) -> CapturedTraining:
        """This training, for use as a :class:`fedmend.federation.Task`."""
        return self

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
        """Train ``model`` in place on uint8 images (N, C, H, W) and their classes (N,).

        Raises:
            DivergedError: the loss became NaN or infinite.
        """
        own = self._model.state_dict()
        if self._images is None:
            self._images = torch.zeros(
                (self._most, *images.shape[1:]), dtype=torch.uint8, device=self._device
            )
        self._images[: len(images)] = images.to(self._device)
        self._labels[: len(labels)] = labels.to(self._device)
        if self._graph is None and self._device.type == "cuda":
            self._capture()
        for name, value in model.state_dict().items():
            own[name].copy_(value)
        for state in self._adam.state.values():
            for value in state.values():
                value.zero_()
        rng = generator(seed, "captured")
        size = self.settings.batch_size
        for _ in range(self.settings.epochs):
            order = torch.randperm(len(images), generator=rng)[: self.settings.images_per_epoch].to(
                self._device
            )
            for batch in order[: max(1, len(order) // size) * size].split(size):
                self._batch.copy_(batch if len(batch) == size else batch.repeat(size)[:size])
                if self._graph is None:
                    self._step()
                else:
                    self._graph.replay()
        if not bool(self._loss.isfinite()):
            raise DivergedError("training diverged: the loss is NaN or infinite; try a smaller learning rate")
        for name, value in model.state_dict().items():
            value.copy_(own[name])

    def _step(self) -> None:
        assert self._images is not None
        pixels = self._images[self._batch].to(memory_format=torch.channels_last).float() / 255
        self._adam.zero_grad(set_to_none=False)
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = self._model(pixels)
        loss = cross_entropy(logits.float(), self._labels[self._batch])
        loss.backward()
        self._adam.step()
        self._loss.copy_(loss.detach())

    def _capture(self) -> None:
        """Record one step, after a few on another stream; the weights that they change are copied over later."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()


@dataclass(frozen=True, eq=False)
class CapturedFit:
    """Has a round's clients train one after the other with one captured step; a ``Fit`` for ``Execution``."""

    training: CapturedTraining

    def __call__(
        self, model: nn.Module, clients: Sequence[Client], plan: RoundPlan
    ) -> list[tuple[ClientUpdate, dict[str, Tensor]]]:
        """What each client sends, and the integer buffers of its model."""
        sent = []
        asked = replace(plan, task=self.training)
        for client in clients:
            own = deepcopy(model)
            update = client.fit(own, asked.task, asked.seed_of(client.client_id))
            integers = {
                name: value for name, value in own.state_dict().items() if not value.is_floating_point()
            }
            sent.append((update, integers))
        return sent
