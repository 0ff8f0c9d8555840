import pytest
import torch
from torch import nn

from fedmend.acceleration.joining import joined
from fedmend.acceleration.packing import PackedConvolutions, packed
from fedmend.seeds import generator
from small_nets import assert_alike, packed_ones


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
    """With the activations between them, and the last one if torch, too, would keep its output."""
    model = row(*modules)
    found = joined(packed(model, torch.channels_last))
    children = [each for each in found.children() if type(each) not in (nn.Identity, nn.Dropout)]
    rows = [each for each in children if isinstance(each, PackedConvolutions)]
    assert [[layer.slope for layer in each.layers] for each in rows] == runs
    assert [type(each) for each in children if each not in rows] == left
    assert_alike(model, found, THREE)
    assert packed_ones(packed(model, torch.channels_last)) == sum(map(len, runs))
    assert_alike(model, packed(model, torch.channels_last), THREE)


def test_a_sequence_of_a_class_of_its_own_is_not_joined() -> None:
    """Its forward may be another."""
    found = joined(packed(Own(*row(more())), torch.channels_last))
    assert [len(each.layers) for each in found.children()] == [1, 1]  # type: ignore[arg-type]


def test_modules_with_hooks_stay() -> None:
    for watched in (0, 1):
        seen: list[object] = []
        model = row(nn.ReLU(), more())
        model[watched].register_forward_hook(lambda *each, seen=seen: seen.append(each))
        found = joined(packed(model, torch.channels_last))
        assert type(found[watched]) is type(model[watched])  # type: ignore[index]
        found(THREE)
        assert len(seen) == 1


@pytest.mark.parametrize("modules", [(), (nn.ReLU(),), (more(),), (more(), nn.LeakyReLU(0.3, inplace=True))])
def test_its_output_may_be_changed_in_place(modules: tuple[nn.Module, ...]) -> None:
    """Where torch allows it: not behind a ReLU."""
    pixels = THREE.clone().requires_grad_()
    outputs = joined(packed(row(*modules), torch.channels_last))(pixels)
    if modules and not isinstance(modules[-1], nn.Conv2d):
        outputs = outputs + 0
    outputs += 1
    assert bool(torch.autograd.grad(outputs.square().sum(), pixels)[0].isfinite().all())


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.1, inplace=True)])
def test_nan_stays_nan(activation: nn.Module) -> None:
    """oneDNN's own ReLU turns it into 0."""
    found = joined(packed(row(activation, more()), torch.channels_last))
    assert bool(found(torch.full((1, 3, 8, 8), torch.nan)).isnan().all())


def test_one_module_may_see_images_of_several_sizes() -> None:
    model = row(nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2))
    found = joined(packed(model, torch.channels_last))
    for size in ((14, 14), (9, 12), (20, 7)):
        assert_alike(model, found, torch.rand(2, 3, *size, generator=generator(1)))


def test_without_gradients_nothing_is_kept_for_the_backward_pass() -> None:
    found = joined(packed(row(more(), more()), torch.channels_last))
    with torch.no_grad():
        assert found(THREE.clone().requires_grad_()).grad_fn is None
    assert found(THREE).grad_fn is None
    assert found(THREE.clone().requires_grad_()).grad_fn is not None
