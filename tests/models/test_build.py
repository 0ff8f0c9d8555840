import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.models import build_model, probe

NET = """
import torch
from torch import nn

def make(num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_size[0] * image_size[1], num_classes))

def anything(**settings):
    net = nn.Identity()
    net.settings = settings
    return net

class Bare(nn.Module):
    pass

class Nested:
    make = staticmethod(make)

def fails(num_classes):
    raise RuntimeError("no luck\\nat all")

def quits():
    raise SystemExit(3)

def needs(depth):
    return nn.Identity()

def number():
    return 5

def lazy():
    import sibling_of_own_net
    return nn.Identity()

instance = nn.Linear(1, 1)
"""


def build(name: str, seed: int | None = None) -> nn.Module:
    return build_model(name, num_classes=4, in_channels=1, image_size=(28, 28), seed=seed)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a module into the current folder, forgotten after the test."""

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    write("own_net", NET)
    write("sibling_of_own_net", "")
    return write


def test_seed_makes_weights_reproducible_and_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, second, other = build("convnet", 1), build("convnet", 1), build("convnet", 2)
    assert torch.equal(before, torch.get_rng_state())
    states = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["fc.weight"], states[2]["fc.weight"])
    build("convnet")
    assert not torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["two-conv-8-16", "two_conv_8_16", " Two-Conv_8-16"])
def test_hyphens_and_underscores_are_alike(name: str) -> None:
    assert probe(build(name), 1, (28, 28)) == 4


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"did you mean resnet18\?.*package\.module:factory"):
        build("resnet_81")
    with pytest.raises(ModelError, match=r"expected convnet, .* or package\.module:factory"):
        build("zzz")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_classes": 1, "in_channels": 1, "image_size": (28, 28)},
        {"num_classes": 10, "in_channels": 0, "image_size": (28, 28)},
        {"num_classes": 10, "in_channels": 1, "image_size": (0, 28)},
    ],
)
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(ModelError, match="2 or more classes"):
        build_model("convnet", **settings)


def test_a_factory_of_ones_own_gets_what_it_accepts(own: object) -> None:
    path = list(sys.path)
    assert probe(build("own_net:make"), 1, (28, 28)) == 4
    assert probe(build("own_net:Nested.make"), 1, (28, 28)) == 4
    settings = {"num_classes": 4, "in_channels": 1, "image_size": (28, 28)}
    assert build("own_net:anything").settings == settings
    assert type(build("own_net:Bare")).__name__ == "Bare"
    assert isinstance(build("own_net:lazy"), nn.Identity)
    assert sys.path == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:make", "no module 'no_such_module_here'.*current folder"),
        ("own_net:mak", "no 'mak'.*did you mean make"),
        ("own_net:fails", "num_classes=4.*RuntimeError: no luck at all"),
        ("own_net:quits", "SystemExit: 3"),
        ("own_net:needs", "must require nothing else"),
        ("own_net:number", "returned a int"),
        ("own_net:instance", "is a Linear; expected a function or class"),
        ("own_net.py:make", "no .py"),
        ("./own_net:make", "no folders"),
        (":make", "can't read"),
        ("own_net:", "can't read"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(own: object, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build(name)
    assert "\n" not in str(caught.value)


def test_modules_that_fail_to_import(own: Callable[[str, str], None]) -> None:
    own("broken_own_net", "1 / 0")
    own("script_own_net", "raise SystemExit('usage: script')")
    own("lacking_own_net", "import no_such_module_here")
    with pytest.raises(ModelError, match="importing broken_own_net failed: ZeroDivisionError"):
        build("broken_own_net:make")
    with pytest.raises(ModelError, match="usage: script"):
        build("script_own_net:make")
    with pytest.raises(ModelError, match=r"importing lacking_own_net failed.*no_such_module_here"):
        build("lacking_own_net:make")


def test_probe_restores_every_layers_mode() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3))
    model[1].eval()
    assert probe(model, 1, (2, 2)) == 3
    assert [module.training for module in model] == [True, False, True, True]
    assert model[1].running_mean.tolist() == [0, 0, 0, 0]
    assert model.training


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Integers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).long()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Pair(), "returned a tuple"),
        (nn.Identity(), r"shape \(2, 1, 4, 4\)"),
        (nn.Flatten(0), r"shape \(32,\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), r"shape \(2, 1\)"),
        (Integers(), "int64"),
        (nn.Conv2d(3, 4, 1), "failed on images of shape"),
    ],
)
def test_probe_refuses_what_is_not_logits(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        probe(model, 1, (4, 4))
    assert model.training


def test_a_compiled_network_is_taken_before_compilation() -> None:
    net = build_model("small_nets:compiled", num_classes=3, in_channels=1, image_size=(4, 4), seed=0)
    assert type(net) is nn.Sequential
    assert probe(net, 1, (4, 4)) == 3
