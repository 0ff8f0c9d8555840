from __future__ import annotations

import torch

import planted
from fedmend.detection.search.model_inversion import inverted_images, roughness
from fedmend.inference import frozen
from fedmend.seeds import generator

LABELS = torch.arange(8) % planted.CLASSES


def test_the_model_takes_the_images_for_the_classes(world: planted.World) -> None:
    stages = []
    with frozen(world.reference):
        images = inverted_images(
            world.reference,
            LABELS,
            (1, planted.SIDE, planted.SIDE),
            40,
            generator(0),
            lambda stage, done, total: stages.append((stage, done, total)),
        )
    assert images.shape == (8, 1, planted.SIDE, planted.SIDE)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert torch.equal(world.reference(images).argmax(1), LABELS)
    assert stages[-1] == ("model inversion", 40, 40)


def test_they_are_smoother_than_noise(world: planted.World) -> None:
    with frozen(world.reference):
        images = inverted_images(world.reference, LABELS, (1, 12, 12), 40, generator(0))
    assert roughness(images).mean() < 0.5 * roughness(torch.rand(8, 1, 12, 12, generator=generator(0))).mean()


def test_roughness_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [0.5, 1.0]]]])
    assert roughness(image).tolist() == [0.25 / 2 + 1.25 / 2]
