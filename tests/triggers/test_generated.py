import torch

from fedmend.triggers import Generated

SHAPE = (3, 12, 16)


def test_each_image_gets_a_pattern_of_its_own_within_the_strength() -> None:
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    changes = Generated(SHAPE, strength=0.1).apply(images) - images
    assert 0.05 < float(changes.abs().max()) <= 0.1 + 1e-6
    flat = changes.flatten(1)
    similar = torch.cosine_similarity(flat[:, None], flat[None], dim=2)
    assert float((similar - torch.eye(6)).abs().max()) < 0.5


def test_a_black_image_has_a_pattern_too() -> None:
    assert float(Generated(SHAPE).apply(torch.zeros(1, *SHAPE)).max()) > 0


def test_the_seed_draws_another_generator() -> None:
    images = torch.rand(2, *SHAPE)
    assert not torch.equal(Generated(SHAPE).apply(images), Generated(SHAPE, seed=1).apply(images))
