"""fedmend's small networks as chains of layers, which other libraries can take apart."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn


def chained(model: Any) -> nn.Sequential:
    """A ConvNet or ThreeConv that computes the same, in eval mode.

    Its parts are called ``normalize``, ``features``, ``pool``, ``flatten`` and ``classifier``, as TrojanZoo expects.
    """
    if hasattr(model, "fc"):
        features, pool, classifier = model.features, model.pool, nn.Sequential(model.fc)
    else:
        convolutions = (model.conv1, model.conv2, model.conv3)
        features = nn.Sequential(*(part for each in convolutions for part in (each, model.pool, model.relu)))
        pool, classifier = nn.Identity(), nn.Sequential(model.fc1, model.relu, model.fc2)
    parts = {"normalize": model.normalize, "features": features, "pool": pool, "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(parts | {"classifier": classifier})).eval()
