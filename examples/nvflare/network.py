"""The model, which server and clients share."""

from __future__ import annotations

from torch import Tensor, nn

from fedmend import build_model


class Network(nn.Module):
    """FLARE writes a job's model as a class and its arguments, so it is a class of the job's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = build_model("convnet", num_classes=10, in_channels=1, image_size=(28, 28), seed=0)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits
