import torch

from fedmend.repairs.perturbation_generator import PerturbationGenerator
from fedmend.seeds import generator

IMAGES = torch.rand(4, 3, 6, 5, generator=generator(0)) / 2 + 0.25


def test_changes_are_bounded_and_faint_at_first() -> None:
    made = PerturbationGenerator(IMAGES, 0.1, generator(1))
    assert float((made(IMAGES) - IMAGES).detach().abs().max()) < 0.1
    with torch.no_grad():
        made.weights[2].fill_(9.0)
    change = (made(IMAGES) - IMAGES).detach()
    assert torch.allclose(change.square().mean((1, 2, 3)).sqrt(), torch.full((4,), 0.1), atol=1e-4)
    assert float(made(2 * IMAGES).detach().max()) <= 1


def test_a_change_at_one_place_can_be_learned() -> None:
    made = PerturbationGenerator(IMAGES, 0.5, generator(1))
    optimizer = torch.optim.Adam(made.weights, 0.01)
    wanted = IMAGES.clone()
    wanted[:, :, 0, 0] = 1
    for _ in range(200):
        optimizer.zero_grad()
        (made(IMAGES) - wanted).square().sum().backward()
        optimizer.step()
    assert float((made(IMAGES) - wanted).detach().abs().max()) < 0.25
