"""Factories of packages and of a user's own: what they are given, and what is wrong with them."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmend.errors import ModelError
from fedmend.models import build_model, probe

FACTORIES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, width=3):
        super().__init__()
        self.head = nn.Linear(16, num_classes)
        self.width = width

    def forward(self, images):
        return self.head(images.flatten(1))

def passes_on(*, weights=None, **kwargs):
    return Net(**kwargs)

def sets_it_too(**kwargs):
    return Net(num_classes=4, **kwargs)

def sized(**kwargs):
    assert kwargs.pop("image_size", 224) % 4 == 0
    net = Net(num_classes=kwargs["num_classes"])
    net.in_channels = kwargs["in_channels"]
    return net

def strict(num_classes):
    return Net(num_classes)

def on_meta():
    with torch.device("meta"):
        return Net(4)

def gradients_off():
    torch.set_grad_enabled(False)
    return Net(4)

def busy():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(3)
    return Net(4).float()

def interrupts():
    raise KeyboardInterrupt

class Lazy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.convolution, self.head = nn.LazyConv2d(2, 3), nn.LazyLinear(num_classes)

    def forward(self, images):
        return self.head(self.convolution(images).flatten(1))

def broken_lazy():
    return nn.Sequential(nn.LazyLinear(4), nn.Linear(5, 4))
"""

LIBRARY = """
from own_factories import Net

def create_model(name, pretrained, **kwargs):
    if name != "tiny.one":
        raise RuntimeError(f"Unknown model ({name})")
    net = Net(num_classes=kwargs.pop("num_classes"))
    net.given = {"pretrained": pretrained, **kwargs}
    return net
"""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    Path("own_factories.py").write_text(FACTORIES)


def build(name: str, size: tuple[int, int] = (4, 4), **arguments: Any) -> Any:
    return build_model(name, num_classes=4, in_channels=1, image_size=size, seed=0, arguments=arguments)


@pytest.mark.parametrize("name", ["passes_on", "sets_it_too", "sized", "strict"])
def test_a_factory_gets_what_it_accepts_whatever_it_says(name: str) -> None:
    assert probe(build(f"own_factories:{name}"), 1, (4, 4)) == 4


def test_an_image_size_is_one_number_or_left_out_where_two_are_refused() -> None:
    assert build("own_factories:sized").in_channels == 1
    with pytest.raises(ModelError, match="failed on images"):
        probe(build("own_factories:sized", (2, 4)), 1, (2, 4))


def test_arguments_of_ones_own_take_precedence() -> None:
    net = build("own_factories:passes_on", width=7, num_classes=5)
    assert (net.width, net.head.out_features) == (7, 5)
    assert build("resnet18", width=4).conv1.out_channels == 4
    for name in ("passes_on", "strict", "Net"):
        with pytest.raises(ModelError, match=r"depth=3.*unexpected keyword argument 'depth'"):
            build(f"own_factories:{name}", depth=3)


def test_networks_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for timm, which the tests don't need; a file called so in the current folder is not run."""
    Path("timm.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ModelError, match=r"needs timm.*fedmend\[timm\]"):
        build("timm:tiny.one")
    Path("installed").mkdir()
    Path("installed/timm.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.syspath_prepend(Path.cwd() / "installed")
    net = build("timm:tiny.one", drop_rate=0.5)
    assert net.given == {"pretrained": False, "in_chans": 1, "drop_rate": 0.5}
    assert probe(net, 1, (4, 4)) == 4
    with pytest.raises(ModelError, match="Unknown model"):
        build("timm:other")
    with pytest.raises(ModelError, match="expected timm:NAME"):
        build("timm:hf-hub:someone/tiny")


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("on_meta", "head.weight is on the meta device"),
        ("gradients_off", r"changes whether gradients are computed .*torch.no_grad\(\)"),
        ("interrupts", "failed when called with .*KeyboardInterrupt"),
        ("broken_lazy", "failed when its lazy layers were initialised"),
    ],
)
def test_odd_factories_are_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build(f"own_factories:{name}")
    assert "\n" not in str(caught.value)
    assert torch.is_grad_enabled()


def test_torchs_settings_are_kept() -> None:
    before = torch.get_num_threads()
    build("own_factories:busy")
    assert (torch.get_default_dtype(), torch.get_num_threads()) == (torch.float32, before)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_are_initialised_from_the_seed() -> None:
    first, second = (build("own_factories:Lazy") for _ in range(2))
    assert type(first.head) is nn.Linear
    assert torch.equal(first.head.weight, second.head.weight)
    first.load_state_dict(second.state_dict())
