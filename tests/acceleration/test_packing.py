from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from fedmend.acceleration.packing import Transposed, packed, packs
from fedmend.seeds import generator
from small_nets import assert_alike, convolutions, logits_and_gradient, packed_ones

LAYOUTS = [torch.channels_last, torch.contiguous_format]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(9, 9), (12, 7), (5, 16)])
@pytest.mark.parametrize(
    "convolution",
    [
        partial(nn.Conv2d, 1, 12, 3, stride=2, padding=1),
        partial(nn.Conv2d, 3, 20, 5),
        partial(nn.Conv2d, 20, 50, 5, padding=2, bias=False),
        partial(nn.Conv2d, 16, 40, (3, 1), stride=(2, 3), padding=(1, 0)),
        partial(nn.Conv2d, 64, 16, 1, stride=2, bias=False),
        partial(nn.Conv2d, 3, 8, 3, stride=3, padding=2),
        partial(nn.Conv2d, 2, 8, 1, padding=1),
        partial(nn.Conv2d, 2, 8, 1, stride=2, padding=3),
    ],
    ids=str,
)
def test_a_packed_convolution_computes_what_torchs_does(
    layout: torch.memory_format, size: tuple[int, int], convolution: Callable[[], nn.Conv2d]
) -> None:
    """Forward and back to the pixels, for several batch sizes in turn."""
    torch.manual_seed(0)
    single = convolution()
    plain = nn.Sequential(single).requires_grad_(False)
    found = packed(plain, layout)
    assert (packed_ones(found), convolutions(found), convolutions(plain)) == (1, 0, 1)
    for count in (4, 1, 9):
        images = torch.rand(count, single.in_channels, *size, generator=generator(count))
        for mine, torchs in zip(
            logits_and_gradient(found, images), logits_and_gradient(plain, images), strict=True
        ):
            assert mine.shape == torchs.shape
            assert torch.allclose(mine, torchs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_have_the_layout_asked_for(layout: torch.memory_format) -> None:
    model = packed(nn.Sequential(nn.Conv2d(3, 8, 3)).requires_grad_(False), layout)
    assert model(torch.rand(2, 3, 8, 8)).is_contiguous(memory_format=layout)


def test_other_convolutions_stay() -> None:
    """Those with groups, dilation, another padding or precision, and those of a class of their own."""

    class Own(nn.Conv2d):
        pass

    others = [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        Own(4, 4, 3),
    ]
    model = nn.Sequential(*others)
    assert packed(model, torch.channels_last) is model
    double = nn.Sequential(nn.Conv2d(4, 4, 3)).double()
    assert packed(double, torch.channels_last) is double
    both = packed(nn.Sequential(*others, nn.Conv2d(4, 4, 3)).requires_grad_(False), torch.channels_last)
    assert (packed_ones(both), convolutions(both)) == (1, 5)


def test_what_is_not_packed_is_shared() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)).eval()
    found = packed(model, torch.channels_last)
    assert found[3].weight is model[3].weight  # type: ignore[index]
    assert found[1].running_mean is model[1].running_mean  # type: ignore[index]
    assert not found.training


def test_a_torch_without_an_operator_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).requires_grad_(False)
    with monkeypatch.context() as patched:
        patched.setattr(torch.ops.mkldnn, "_convolution_transpose_pointwise", None)
        packs.cache_clear()
        assert packed(model, torch.channels_last) is model
    packs.cache_clear()
    assert packed_ones(packed(model, torch.channels_last)) == 1


@pytest.mark.parametrize(("channels", "stride"), [(4, 2), (5, 2), (1, (1, 2)), (4, 1)])
def test_weights_packed_for_both_directions_are_kept_alone(
    channels: int, stride: int | tuple[int, int]
) -> None:
    plain = nn.Sequential(nn.Conv2d(channels, 6, 3, stride)).requires_grad_(False)
    model = packed(plain, torch.channels_last)
    assert_alike(model, plain, torch.rand(2, channels, 9, 9))
    (layer,) = model[0].layers  # type: ignore[index, union-attr, misc]
    assert layer.weight is None


def test_operators_with_wrong_results_pack_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).requires_grad_(False)
    way = Transposed.__call__

    def wrong(self: Transposed, *arguments: Tensor) -> Tensor:
        return 2 * way(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Transposed, "__call__", wrong)
        packs.cache_clear()
        assert packed(model, torch.channels_last) is model
    packs.cache_clear()
