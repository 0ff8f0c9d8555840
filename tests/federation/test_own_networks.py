"""Networks of a user's own, with arguments and a normalisation from the settings."""

from pathlib import Path

import torch
from simulations import run
from tiny_data import data, settings

from fedmend.federation.simulator import initial_model
from fedmend.federation.workers import can_be_sent
from fedmend.pixels import to_float


def test_a_factorys_arguments_and_the_normalisation_of_its_input(tmp_path: Path) -> None:
    model = {"architecture": "tiny_nets:deep", "arguments": {"hidden": 5}, "mean": 0.25, "std": [0.5]}
    images = data()[0]
    plain, normalising = (
        initial_model(settings(model={**model, **more}), images) for more in ({"mean": 0, "std": 1}, {})
    )
    assert plain[0][1].out_features == 5  # type: ignore[index]
    pixels = to_float(images.images[:4])
    assert torch.allclose(normalising(pixels), plain((pixels - 0.25) / 0.5), atol=1e-6)
    assert can_be_sent(normalising)
    done = run(settings(model=model), tmp_path)
    again = done.config().model
    assert (again.mean, again.std, again.arguments) == ((0.25,), (0.5,), {"hidden": 5})
