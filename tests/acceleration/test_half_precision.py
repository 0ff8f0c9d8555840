from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedmend.acceleration import lighter
from fedmend.acceleration.half_precision import (
    InHalfPrecision,
    gains_by_halving,
    halved,
    multiplies_bfloat16,
)
from fedmend.acceleration.packing import packed, packs
from fedmend.detection import PAPER_SETTINGS, THOROUGH, Contrastive
from fedmend.models import convnet, resnet18
from small_nets import IMAGES, answer_and_gradient, norms, packed_ones, settled

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Says what the processor multiplies, and that torch packs it."""
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
    """A convolution with many channels, of which so many are answers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 10_000, 3)

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.body(images).mean((2, 3))[:, :4]
        return answers


class Offset(Narrow):
    """Half precision doesn't hold its answers: it has eight bits for a number."""

    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(images) + 1000) - 1000


class Alike(Narrow):
    """All but the same for every class, so that what differs is lost."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 1000


class Mixed(Narrow):
    """It does with single precision alone."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * torch.ones(1))


class Crooked(Narrow):
    """Half precision answers alike, but leads elsewhere."""

    def forward(self, images: Tensor) -> Tensor:
        answers = super().forward(images)
        if images.dtype == torch.float32:
            return answers
        elsewhere = images.mean()
        return answers.detach() + elsewhere - elsewhere.detach()


def test_all_numbers_but_integers_are_halved_in_a_copy() -> None:
    model = wide()
    model.fc.bias = nn.Parameter(torch.zeros(10))
    model.other = model.fc
    found = halved(model)
    assert {value.dtype for value in found.state_dict().values()} == {torch.bfloat16, torch.int64}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
    assert found.other is found.fc
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert not found.training


def test_answers_and_gradients_are_nearly_the_same() -> None:
    model = wide()
    before, after = (
        answer_and_gradient(each, IMAGES) for each in (model, InHalfPrecision(model, halved(model)))
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


def test_a_lighter_model_is_halved_where_it_gains(able: Callable[..., None]) -> None:
    model = wide()
    able(avx512_bf16=True)
    found = lighter(model, IMAGES, half=True)
    assert isinstance(found, InHalfPrecision)
    assert norms(found) == 0
    assert packed_ones(found) == (packed_ones(lighter(model, IMAGES)) if packs(torch.bfloat16) else 0)
    assert float((found(IMAGES) - model(IMAGES)).abs().max()) < 0.05 * float(model(IMAGES).abs().max())
    assert not isinstance(lighter(model, IMAGES), InHalfPrecision)
    able()
    assert not isinstance(lighter(model, IMAGES, half=True), InHalfPrecision)


@pytest.mark.parametrize("make", [Offset, Alike, Mixed, Crooked])
def test_what_answers_otherwise_in_half_precision_is_not_halved(
    make: Callable[[], Any], able: Callable[..., None]
) -> None:
    able(avx512_bf16=True)
    model = make().eval().requires_grad_(False)
    assert gains_by_halving(model)
    found = lighter(model, IMAGES, half=True)
    assert not isinstance(found, InHalfPrecision)
    assert packed_ones(found) == 1


def test_packed_convolutions_of_it_answer_like_torchs() -> None:
    plain = halved(wide())
    found = packed(plain, torch.channels_last, join=True)
    assert packed_ones(found) > 0 or not packs(torch.bfloat16)
    assert packs(torch.bfloat16) or not multiplies_bfloat16()
    before, after = (answer_and_gradient(InHalfPrecision(plain, each), IMAGES) for each in (plain, found))
    assert float((after[0] - before[0]).abs().max()) < 0.02 * float(before[0].abs().max())
    assert float(cosine_similarity(after[1].flatten(), before[1].flatten(), dim=0)) > 0.98


def test_where_it_answers_no_number_the_model_itself_is_asked() -> None:
    class Overflowing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) / 0

    found = InHalfPrecision(nn.Flatten(), Overflowing())
    assert torch.equal(found(IMAGES), IMAGES.flatten(1))


def test_which_searches_are_in_half_precision() -> None:
    assert Contrastive().half
    assert Contrastive().control(0.1).half
    assert not any(method.half for method in (THOROUGH, *PAPER_SETTINGS.values()))
