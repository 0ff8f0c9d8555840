from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.acceleration import Accelerated
from fedmend.detection import Case, model_pair
from fedmend.detection.model_pair import accelerated_pair
from fedmend.errors import ModelError
from fedmend.models import resnet18
from fedmend.seeds import generator


@pytest.fixture
def case() -> Case:
    """Two small residual networks in train mode."""
    models = [resnet18(num_classes=4, width=4).train() for _ in range(2)]
    return Case(*models, torch.rand(12, 3, 16, 16, generator=generator(0)), torch.arange(12) % 4)


def searched(pair: Any) -> list[nn.Module]:
    return [each._model for each in (pair.suspect, pair.reference)]


def test_models_are_accelerated_for_their_logits_alone(case: Case) -> None:
    models = [case.suspect, case.reference]
    for layer, faster in (("logits", True), ("avgpool", False)):
        with accelerated_pair(case, layer) as pair:
            assert (searched(pair) != models) == faster
            modules = [module for model in searched(pair) for module in model.modules()]
            assert any(isinstance(module, nn.BatchNorm2d) for module in modules) != faster
            assert not any(module.training for module in modules)
            assert not any(parameter.requires_grad for model in models for parameter in model.parameters())  # type: ignore[union-attr]
            for of, clean in ((pair.suspect, pair.suspect_clean), (pair.reference, pair.reference_clean)):
                assert torch.allclose(of(case.pixels)[0], clean[0], atol=1e-3)
    assert all(module.training for model in models for module in model.modules())  # type: ignore[union-attr]
    assert all(parameter.requires_grad for model in models for parameter in model.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("half", [True, False])
def test_half_precision_is_as_allowed_and_notes_are_told_once(
    case: Case, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    asked: list[bool] = []

    def accelerate(model: nn.Module, images: Tensor, *, half: bool) -> Accelerated:
        asked.append(half)
        return Accelerated(model, ("a note",))

    monkeypatch.setattr(model_pair, "accelerate", accelerate)
    with accelerated_pair(case, "logits", half=half) as pair:
        assert (asked, pair.notes) == ([half, half], ("a note",))


def test_swapped_twice_it_is_as_before(case: Case) -> None:
    with accelerated_pair(case, "logits") as pair:
        swapped = pair.swapped()
        assert (swapped.suspect, swapped.reference) == (pair.reference, pair.suspect)
        assert swapped.suspect_clean is pair.reference_clean
        assert pair.exact is not None
        assert swapped.exact == pair.exact[::-1]
        again = swapped.swapped()
        assert (again.suspect, again.exact, again.notes) == (pair.suspect, pair.exact, pair.notes)


class Around(nn.Module):
    """A model with another function of its pixels or logits."""

    def __init__(
        self,
        model: nn.Module,
        pixels: Callable[[Tensor], Tensor] = lambda x: x,
        logits: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__()
        self.model, self.pixels, self.logits = model, pixels, logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.model(self.pixels(images)))


def test_logits_far_from_zero_are_centred(world: planted.World) -> None:
    shifted = Around(world.backdoored, logits=lambda x: x + 10_000)
    case = Case(shifted, world.reference, world.images[:12])
    with accelerated_pair(case, "logits") as pair:
        assert float(pair.suspect_clean[0].mean(1).abs().max()) < 0.1
        assert float(pair.suspect(case.pixels)[0].mean(1).abs().max()) < 0.1
        assert torch.equal(pair.reference_clean[0], case.reference_logits)


def test_a_model_without_a_gradient_is_refused_unless_that_is_allowed(world: planted.World) -> None:
    detached = Around(world.backdoored, pixels=torch.Tensor.detach)
    case = Case(detached, world.reference, world.images[:12])
    with (
        pytest.raises(ModelError, match="the suspect passes no gradient"),
        accelerated_pair(case, "logits"),
    ):
        pass
    with accelerated_pair(case, "logits", gradient=False) as pair:
        assert pair.images is case.pixels
