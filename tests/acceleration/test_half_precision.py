from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedmend.acceleration import accelerate
from fedmend.acceleration.half_precision import (
    InHalfPrecision,
    gains_by_halving,
    halved,
    multiplies_bfloat16,
)
from fedmend.acceleration.joining import joined
from fedmend.acceleration.packing import packed, packs
from fedmend.models import convnet, resnet18
from small_nets import IMAGES, logits_and_gradient, norms, packed_ones, settled


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets what the CPU multiplies; torch packs it."""
    monkeypatch.setattr("fedmend.acceleration.half_precision.packs", lambda _dtype: True)

    def has(**capabilities: bool) -> None:
        multiplies_bfloat16.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    yield has
    multiplies_bfloat16.cache_clear()


def wide() -> nn.Module:
    """Large enough to gain, with BatchNorm and its count of batches."""
    torch.manual_seed(0)
    return settled(resnet18(width=16)).requires_grad_(False)


class Narrow(nn.Module):
    """A convolution with many channels, of which four are logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 10_000, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images).mean((2, 3))[:, :4]
        return logits


class Offset(Narrow):
    """bfloat16 can't hold its logits: it has eight bits of precision."""

    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(images) + 1000) - 1000


class Alike(Narrow):
    """Logits that are large and nearly the same for every class, so that rounding loses their difference."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 1000


class Mixed(Narrow):
    """Works in float32 only."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * torch.ones(1))


class Crooked(Narrow):
    """In bfloat16 the same logits, but other gradients."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        if images.dtype == torch.float32:
            return logits
        elsewhere = images.mean()
        return logits.detach() + elsewhere - elsewhere.detach()


def test_a_copy_is_halved_but_for_integers() -> None:
    model = wide()
    model.fc.bias = nn.Parameter(torch.zeros(10))
    model.other = model.fc
    found = halved(model)
    assert {value.dtype for value in found.state_dict().values()} == {torch.bfloat16, torch.int64}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
    assert found.other is found.fc
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert not found.training


def test_logits_and_gradients_are_nearly_the_same() -> None:
    model = wide()
    before, after = (
        logits_and_gradient(each, IMAGES) for each in (model, InHalfPrecision(model, halved(model)))
    )
    assert after[0].dtype == after[1].dtype == torch.float32
    assert float((after[0] - before[0]).abs().max()) < 0.03 * float(before[0].abs().max())
    assert float(cosine_similarity(after[1].flatten(), before[1].flatten(), dim=0)) > 0.95
    assert not torch.equal(after[0], before[0])


def test_which_gain(able: Callable[..., None]) -> None:
    able(avx512_bf16=True, amx_bf16=False)
    assert gains_by_halving(wide())
    assert not gains_by_halving(convnet())
    assert not gains_by_halving(wide().double())
    assert not gains_by_halving(nn.Linear(1000, 1000))
    able(amx_bf16=True)
    assert gains_by_halving(wide())
    able(avx512_bf16=False, avx512_f=True)
    assert not gains_by_halving(wide())


def test_a_torch_that_cannot_tell_halves_nothing(
    monkeypatch: pytest.MonkeyPatch, able: Callable[..., None]
) -> None:
    able()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not multiplies_bfloat16()


def test_an_accelerated_model_is_halved_if_it_gains(able: Callable[..., None]) -> None:
    model = wide()
    able(avx512_bf16=True)
    found = accelerate(model, IMAGES, half=True).model
    assert isinstance(found, InHalfPrecision)
    assert norms(found) == 0
    assert packed_ones(found) == (
        packed_ones(accelerate(model, IMAGES).model) if packs(torch.bfloat16) else 0
    )
    assert float((found(IMAGES) - model(IMAGES)).abs().max()) < 0.05 * float(model(IMAGES).abs().max())
    assert not isinstance(accelerate(model, IMAGES).model, InHalfPrecision)
    able()
    assert not isinstance(accelerate(model, IMAGES, half=True).model, InHalfPrecision)


@pytest.mark.parametrize("make", [Offset, Alike, Mixed, Crooked])
def test_a_model_that_predicts_differently_in_bfloat16_is_not_halved(
    make: Callable[[], Any], able: Callable[..., None]
) -> None:
    able(avx512_bf16=True)
    model = make().eval().requires_grad_(False)
    assert gains_by_halving(model)
    found = accelerate(model, IMAGES, half=True).model
    assert not isinstance(found, InHalfPrecision)
    assert packed_ones(found) == 1


def test_packed_convolutions_in_bfloat16_compute_the_same() -> None:
    plain = halved(wide())
    found = joined(packed(plain, torch.channels_last))
    assert packed_ones(found) > 0 or not packs(torch.bfloat16)
    assert packs(torch.bfloat16) or not multiplies_bfloat16()
    before, after = (logits_and_gradient(InHalfPrecision(plain, each), IMAGES) for each in (plain, found))
    assert float((after[0] - before[0]).abs().max()) < 0.02 * float(before[0].abs().max())
    assert float(cosine_similarity(after[1].flatten(), before[1].flatten(), dim=0)) > 0.98


def test_nan_or_infinity_in_bfloat16_is_computed_again_in_float32() -> None:
    class Overflowing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) / 0

    found = InHalfPrecision(nn.Flatten(), Overflowing())
    assert torch.equal(found(IMAGES), IMAGES.flatten(1))
