import pytest
import torch
from torch import Tensor, nn

from fedmend.acceleration.interleaving import Interleaved
from fedmend.acceleration.packing import PackedConvolutions, _Transposed, packed, packs
from fedmend.seeds import generator
from small_nets import answer_and_gradient, assert_alike, convolutions, packed_ones

pytestmark = pytest.mark.usefixtures("one_thread")

LAYOUTS = [torch.channels_last, torch.contiguous_format]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(9, 9), (12, 7), (5, 16)])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "bias"),
    [
        ((1, 12), 3, 2, 1, True),
        ((3, 20), 5, 1, 0, True),
        ((20, 50), 5, 1, 2, False),
        ((16, 40), (3, 1), (2, 3), (1, 0), True),
        ((64, 16), 1, 2, 0, False),
        ((3, 8), 3, 3, 2, True),
        ((2, 8), 1, 1, 1, True),
        ((2, 8), 1, 2, 3, True),
    ],
)
def test_a_packed_convolution_answers_like_torchs(
    layout: torch.memory_format,
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
    bias: bool,
) -> None:
    """Forward and back to the pixels, for one number of images after the other."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(*channels, kernel, stride, padding, bias=bias)).requires_grad_(False)
    found = packed(plain, layout)
    assert (packed_ones(found), convolutions(found), convolutions(plain)) == (1, 0, 1)
    for count in (4, 1, 9):
        images = torch.rand(count, channels[0], *size, generator=generator(count))
        for mine, torchs in zip(
            answer_and_gradient(found, images), answer_and_gradient(plain, images), strict=True
        ):
            assert mine.shape == torchs.shape
            assert torch.allclose(mine, torchs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_they_give_is_in_the_layout_that_was_asked_for(layout: torch.memory_format) -> None:
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


def test_a_torch_with_another_interface_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).requires_grad_(False)
    with monkeypatch.context() as patched:
        patched.setattr(torch.ops.mkldnn, "_convolution_transpose_pointwise", None)
        packs.cache_clear()
        assert packed(model, torch.channels_last) is model
    packs.cache_clear()
    assert packed_ones(packed(model, torch.channels_last)) == 1


class Own(nn.Sequential):
    pass


def row(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), *modules).eval().requires_grad_(False)


RELU = nn.ReLU()
THREE = torch.rand(4, 3, 14, 14, generator=generator(3))


def more(inside: int = 6) -> nn.Conv2d:
    torch.manual_seed(inside)
    return nn.Conv2d(inside, 6, 3, padding=1)


@pytest.mark.parametrize(
    ("modules", "runs", "left"),
    [
        ((more(), more()), [[None, None, None]], []),
        ((nn.ReLU(), more(), nn.LeakyReLU(0.2), more()), [[0.0, 0.2, None]], []),
        ((nn.Dropout(), nn.ReLU(), nn.Identity(), more()), [[0.0, None]], []),
        ((nn.MaxPool2d(2), more(), nn.ReLU()), [[None], [0.0]], [nn.MaxPool2d]),
        ((nn.Sigmoid(), more()), [[None], [None]], [nn.Sigmoid]),
        ((nn.LeakyReLU(0.3), nn.LeakyReLU(0.4), more()), [[None], [None]], [nn.LeakyReLU, nn.LeakyReLU]),
        ((nn.ReLU(), nn.Sigmoid(), nn.ReLU()), [[0.0]], [nn.Sigmoid, nn.ReLU]),
        ((nn.LeakyReLU(-0.1), more()), [[None], [None]], [nn.LeakyReLU]),
        ((RELU, more(), RELU, more(), RELU), [[0.0, 0.0, 0.0]], []),
        ((nn.LeakyReLU(0.3),), [[None]], [nn.LeakyReLU]),
        ((nn.LeakyReLU(0.3, inplace=True),), [[0.3]], []),
        ((nn.Flatten(),), [[None]], [nn.Flatten]),
    ],
)
def test_convolutions_in_a_row_are_joined(
    modules: tuple[nn.Module, ...], runs: list[list[float | None]], left: list[type[nn.Module]]
) -> None:
    """With the activations between them, and behind the last one if torch, too, would keep what it gives."""
    model = row(*modules)
    found = packed(model, torch.channels_last, join=True)
    children = [each for each in found.children() if type(each) not in (nn.Identity, nn.Dropout)]
    joined = [each for each in children if isinstance(each, PackedConvolutions)]
    assert [[layer.slope for layer in each.layers] for each in joined] == runs
    assert [type(each) for each in children if each not in joined] == left
    assert_alike(model, found, THREE)
    assert packed_ones(packed(model, torch.channels_last)) == sum(map(len, runs))
    assert_alike(model, packed(model, torch.channels_last), THREE)


def test_a_sequence_of_a_class_of_its_own_is_not_joined() -> None:
    """Its forward may be another."""
    found = packed(Own(*row(more())), torch.channels_last, join=True)
    assert [len(each.layers) for each in found.children()] == [1, 1]  # type: ignore[arg-type]


def test_modules_that_are_watched_stay() -> None:
    for watched in (0, 1):
        seen: list[object] = []
        model = row(nn.ReLU(), more())
        model[watched].register_forward_hook(lambda *each, seen=seen: seen.append(each))
        found = packed(model, torch.channels_last, join=True)
        assert type(found[watched]) is type(model[watched])  # type: ignore[index]
        found(THREE)
        assert len(seen) == 1


@pytest.mark.parametrize("modules", [(), (nn.ReLU(),), (more(),), (more(), nn.LeakyReLU(0.3, inplace=True))])
def test_what_it_gives_may_be_changed_in_place(modules: tuple[nn.Module, ...]) -> None:
    """Where torch allows it: not behind a ReLU."""
    pixels = THREE.clone().requires_grad_()
    answers = packed(row(*modules), torch.channels_last, join=True)(pixels)
    if modules and not isinstance(modules[-1], nn.Conv2d):
        answers = answers + 0
    answers += 1
    assert bool(torch.autograd.grad(answers.square().sum(), pixels)[0].isfinite().all())


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.1, inplace=True)])
def test_nan_stays_nan(activation: nn.Module) -> None:
    """oneDNN's own ReLU makes 0 of it."""
    found = packed(row(activation, more()), torch.channels_last, join=True)
    assert bool(found(torch.full((1, 3, 8, 8), torch.nan)).isnan().all())


def test_one_module_may_see_images_of_several_sizes() -> None:
    model = row(nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2))
    found = packed(model, torch.channels_last, join=True)
    for size in ((14, 14), (9, 12), (20, 7)):
        assert_alike(model, found, torch.rand(2, 3, *size, generator=generator(1)))


def test_without_gradients_only_the_last_answers_are_kept() -> None:
    found = packed(row(more(), more()), torch.channels_last, join=True)
    with torch.no_grad():
        assert found(THREE.clone().requires_grad_()).grad_fn is None
    assert found(THREE).grad_fn is None
    assert found(THREE.clone().requires_grad_()).grad_fn is not None


@pytest.mark.parametrize(
    ("channels", "stride", "kind"),
    [(4, 2, Interleaved), (5, 2, _Transposed), (4, (1, 2), Interleaved), (4, 1, _Transposed)],
)
def test_few_channels_with_a_stride_are_interleaved(
    channels: int, stride: int | tuple[int, int], kind: type[object]
) -> None:
    model = packed(
        nn.Sequential(nn.Conv2d(channels, 6, 3, stride)).requires_grad_(False), torch.channels_last
    )
    answer_and_gradient(model, torch.rand(2, channels, 9, 9))
    (layer,) = model[0].layers  # type: ignore[index, union-attr, misc]
    assert type(layer.back) is kind
    assert layer.weight is None


def test_what_answers_otherwise_than_torch_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).requires_grad_(False)
    way = _Transposed.__call__

    def wrong(self: _Transposed, *arguments: Tensor) -> Tensor:
        return 2 * way(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(_Transposed, "__call__", wrong)
        packs.cache_clear()
        assert packed(model, torch.channels_last) is model
    packs.cache_clear()
