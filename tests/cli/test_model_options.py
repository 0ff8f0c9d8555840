"""What the command line says about models, and models of a user's own that misbehave."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import planted
from fedmend.checkpoints import save_state
from fedmend.cli.case_loading import load_model
from fedmend.cli.model_options import ModelChoice, read_arguments, read_normalization
from fedmend.data import load_images
from fedmend.errors import ConfigError, ModelError
from fedmend.models import KNOWN_NORMALIZATIONS

ODD = """
import sys
import torch
from torch import nn
import planted

def _of(forward):
    class Odd(nn.Sequential):
        pass
    Odd.forward = forward
    def make(num_classes, in_channels, image_size):
        return Odd(*planted.small(num_classes, in_channels, image_size))
    return make

def _after(change):
    return _of(lambda self, images: change(self, nn.Sequential.forward(self, images)))

indices = _after(lambda self, logits: logits.argmax(1))
detached = _after(lambda self, logits: logits.detach())
fewer = _after(lambda self, logits: logits[1:])
elsewhere = _after(lambda self, logits: logits.to("meta"))
leaves = _after(lambda self, logits: sys.exit(0))
noisy = _after(lambda self, logits: logits + torch.rand_like(logits))
switches = _after(lambda self, logits: torch.set_grad_enabled(False) and None or logits)

def _pairs(self, logits):
    assert len(logits) == 2
    return logits

of_pairs = _after(_pairs)

def _interrupts(self, logits):
    raise KeyboardInterrupt

interrupts = _after(_interrupts)

def hooked(num_classes, in_channels, image_size):
    net = planted.small(num_classes, in_channels, image_size)
    net[3].register_forward_hook(lambda *_: 1 / 0)
    return net

def _late(self, logits):
    if logits.requires_grad and len(logits) > 2:
        sys.exit(1)
    return logits

late = _after(_late)

def scaled(num_classes, in_channels, image_size, by, also="no"):
    net = planted.small(num_classes, in_channels, image_size)
    net.made = by, also
    return net
"""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_odd", raising=False)
    (tmp_path / "own_odd.py").write_text(ODD)
    yield
    sys.modules.pop("own_odd", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("indices", "expected float logits .*int64"),
        ("fewer", r"for N = 2 .*\(1, 4\)"),
        ("elsewhere", "on the device meta"),
        ("leaves", "SystemExit: 0"),
        ("interrupts", "KeyboardInterrupt"),
        ("noisy", "other logits for the same images"),
        ("switches", "switches gradients off"),
        ("of_pairs", r"failed on images of shape .*\(1, 1, 12, 12\)"),
        ("hooked", "ZeroDivisionError"),
        ("late", r"SystemExit: 1"),
    ],
)
def test_a_misbehaving_model_is_one_line(
    refused: Callable[..., None], files: Any, tmp_path: Path, name: str, message: str
) -> None:
    refused(files.scan(files.model("clean"), tmp_path / "out", model=f"own_odd:{name}"), message)


def load(files: Any, choice: ModelChoice, name: str = "clean") -> Any:
    return load_model(Path(files.model(name)), choice, load_images(files.images), torch.device("cpu"))


def test_arguments_reach_the_factory(files: Any) -> None:
    model = load(files, ModelChoice("own_odd:scaled", read_arguments(["by=2", "also=a word"])))
    assert model.made == (2, "a word")
    with pytest.raises(ModelError, match="--model-args"):
        load(files, ModelChoice("own_odd:scaled"))


def test_a_normalised_model_takes_pixels(files: Any, world: planted.World) -> None:
    pixels = world.images[:5] / 255
    plain = load(files, ModelChoice(planted.ARCHITECTURE))
    model = load(files, ModelChoice(planted.ARCHITECTURE, normalization=((0.5,), (0.25,))))
    assert torch.allclose(model(pixels), plain((pixels - 0.5) / 0.25), atol=1e-5)
    assert list(model.state_dict()) == list(plain.state_dict())


def test_a_model_of_more_classes_than_the_data_is_refused(files: Any, tmp_path: Path) -> None:
    save_state(planted.small(7, 1, (12, 12)).state_dict(), tmp_path / "seven.safetensors")
    choice = ModelChoice(planted.ARCHITECTURE, {"num_classes": 7})
    with pytest.raises(ModelError, match=r"returns 7 logits, but the data has 4 .* name all by --classes"):
        load_model(tmp_path / "seven.safetensors", choice, load_images(files.images), torch.device("cpu"))


def test_arguments_are_values_as_in_toml_or_text() -> None:
    given = [
        "width=8",
        "rate = 0.5",
        "deep=true",
        "name='7'",
        "act=gelu",
        "sizes=[1, 2]",
        "empty=",
        "a=1\nb=2",
    ]
    assert read_arguments(given) == {
        "width": 8,
        "rate": 0.5,
        "deep": True,
        "name": "7",
        "act": "gelu",
        "sizes": [1, 2],
        "empty": "",
        "a": "1\nb=2",
    }
    assert read_arguments([f"long={'9' * 5000}"])["long"] == "9" * 5000


@pytest.mark.parametrize("given", [["width"], ["=3"], ["two words=3"], ["a=1", "a=2"]])
def test_arguments_written_otherwise_are_refused(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="expected name=value"):
        read_arguments(given)


def test_normalisations_are_numbers_or_names() -> None:
    assert read_normalization(None, None) is None
    assert read_normalization("0.5", "0.25,1,1") == ((0.5,), (0.25, 1, 1))
    assert read_normalization("imagenet", None) == KNOWN_NORMALIZATIONS["imagenet"]
    assert read_normalization("0.1", "mnist") == ((0.1,), (0.3081,))
    for mean, std, message in (("0.5", None, "--std"), (None, "0.5", "--mean"), ("0.5;0.5", "1", "commas")):
        with pytest.raises(ConfigError, match=message):
            read_normalization(mean, std)


def test_the_options_are_refused_in_one_line(
    refused: Callable[..., None], files: Any, tmp_path: Path
) -> None:
    command = files.scan(files.model("clean"), tmp_path / "out")
    refused([*command, "--model-args", "width"], "--model-args")
    refused([*command, "--mean", "123.7", "--std", "58.4"], "divide")
    refused([*command, "--model-args", "width=3"], "unexpected keyword argument 'width'")
