from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.acceleration import accelerate
from fedmend.acceleration.accelerating import SWITCH
from fedmend.acceleration.half_precision import multiplies_bfloat16
from fedmend.acceleration.packing import packable, packs
from fedmend.errors import ConfigError
from fedmend.models import convnet, resnet18
from small_nets import IMAGES, Body, assert_alike, convolutions, norms, packed_ones, settled


class Undecided(Body):
    """Its path depends on the images, which torch.fx can't trace."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


class Counting(Body):
    """Adds the number of its calls."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) + self.calls


class Twice(Body):
    """Uses one convolution with and without BatchNorm; folding would change the latter."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.body[0](images).mean((2, 3))


class Viewed(Body):
    """As many write it: it needs the contiguous layout."""

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.body(images)
        return outputs.view(outputs.size(0), -1)


class Uncopied(Body):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise RuntimeError("one is enough")


@pytest.mark.parametrize(
    ("make", "batch_norms", "packed"),
    [
        (lambda: resnet18(width=4), 0, 20),
        (lambda: convnet(in_channels=3), 0, 4),
        (Body, 0, 1),
        (Undecided, 1, 1),
        (Twice, 1, 1),
        (Viewed, 0, 1),
        (Counting, 1, 0),
    ],
)
def test_each_step_that_computes_the_same_is_kept(
    make: Callable[[], nn.Module], batch_norms: int, packed: int
) -> None:
    torch.manual_seed(0)
    model = settled(make()).requires_grad_(False)
    before = convolutions(model)
    found = accelerate(model, IMAGES).model
    assert (norms(found), packed_ones(found)) == (batch_norms, packed)
    assert (convolutions(model), packed_ones(model)) == (before, 0)
    if isinstance(model, Counting):
        assert found is model
    else:
        assert_alike(model, found, IMAGES)


def test_a_model_that_cannot_be_copied_is_only_folded() -> None:
    found = accelerate(settled(Uncopied()).requires_grad_(False), IMAGES).model
    assert norms(found) == 0
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).eval()
    unchanged = accelerate(plain, IMAGES)
    assert (unchanged.model, unchanged.notes) == (plain, ())


def test_the_first_eight_images_are_used() -> None:
    used = []
    model = settled(Body())
    model.register_forward_pre_hook(lambda _model, inputs: used.append(inputs[0]))
    accelerate(model, IMAGES)
    assert torch.equal(used[0], IMAGES[:8])


FOLDED = "BatchNorm folded into the convolutions before it"
PACKED = "convolutions with weights pre-packed for oneDNN"


def notes_of(model: nn.Module, *, half: bool = False) -> tuple[str, ...]:
    return accelerate(settled(model).requires_grad_(False), IMAGES, half=half).notes


def test_notes_say_what_was_done() -> None:
    assert notes_of(Body()) == (FOLDED, PACKED)
    assert notes_of(convnet(in_channels=3)) == (PACKED,)


def test_notes_say_what_is_in_bfloat16() -> None:
    notes = notes_of(resnet18(width=16), half=True)
    halved = multiplies_bfloat16() and packs(torch.bfloat16)
    assert ("searched in bfloat16; evidence in float32" in notes) == halved
    assert "searched in bfloat16; evidence in float32" not in notes_of(resnet18(width=16))


def test_a_model_that_cannot_be_packed_gets_a_note() -> None:
    (note,) = notes_of(Counting())
    assert note.startswith("convolutions run unpacked: the model")


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """torch.fx prints the exceptions of layouts that a model can't take."""
    notes_of(Viewed())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("word", ["off", "OFF", " Off ", "0", "false", "False"])
def test_it_can_be_switched_off(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, word)
    model = settled(Body())
    found = accelerate(model, IMAGES)
    assert found.model is model
    assert found.notes == ("acceleration switched off (FEDMEND_ACCELERATION=off)",)


@pytest.mark.parametrize("word", ["on", "ON", "1", "true", "True", ""])
def test_it_can_be_left_on(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, word)
    assert not any("switched off" in note for note in accelerate(settled(Body()), IMAGES).notes)


@pytest.mark.parametrize("word", ["no", "offf", "2"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, word)
    with pytest.raises(ConfigError, match=f"{SWITCH}: expected on or off .*got '{word}'"):
        accelerate(settled(Body()), IMAGES)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_this_torchs_private_operators_are_as_expected() -> None:
    """Where it fails, a new release of torch has changed them and scans are slower: see acceleration/README.md."""
    assert packs(torch.float32)
    assert packs(torch.bfloat16) or not multiplies_bfloat16()


class Operators:
    """torch.ops.mkldnn with one operator replaced."""

    def __init__(self, name: str, operator: Any) -> None:
        self.replaced, self.operator = name, operator
        self.operators = torch.ops.mkldnn

    def __getattr__(self, name: str) -> Any:
        return self.operator(self.operators, name) if name == self.replaced else getattr(self.operators, name)


def missing(_operators: Any, name: str) -> Any:
    raise AttributeError(name)


class OtherSignature:
    def __init__(self, *_arguments: Any) -> None:
        pass

    def default(self, images: Tensor, weight: Tensor) -> Tensor:
        return images @ weight


class WrongResult:
    def __init__(self, operators: Any, name: str) -> None:
        self.operator = getattr(operators, name)

    def default(self, *arguments: Any) -> Tensor:
        return 2 * self.operator.default(*arguments)  # type: ignore[no-any-return]


@pytest.fixture
def forgetful() -> Iterator[None]:
    packs.cache_clear()
    yield
    packs.cache_clear()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("operator", [missing, OtherSignature, WrongResult])
@pytest.mark.parametrize("name", ["_convolution_pointwise", "_convolution_transpose_pointwise"])
def test_changed_operators_get_a_note(monkeypatch: pytest.MonkeyPatch, operator: Any, name: str) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", Operators(name, operator))
    model = settled(Body()).requires_grad_(False)
    found = accelerate(model, IMAGES)
    assert packed_ones(found.model) == 0
    assert_alike(model, found.model, IMAGES)
    assert found.notes[0] == FOLDED
    (note,) = found.notes[1:]
    assert note.startswith(f"this torch's private oneDNN operators differ (torch {torch.__version__})")
    assert "times as long" in note


@pytest.mark.usefixtures("forgetful")
def test_a_torch_without_onednn_gets_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", Operators("_convolution_pointwise", missing))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert notes_of(Body()) == (FOLDED, "this torch has no oneDNN: convolutions run unpacked")


def test_operators_that_differ_in_bfloat16_alone_get_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("accelerating", "half_precision"):
        monkeypatch.setattr(f"fedmend.acceleration.{module}.packs", lambda dtype: dtype == torch.float32)
    monkeypatch.setattr("fedmend.acceleration.half_precision.multiplies_bfloat16", lambda: True)
    note = "this torch's private oneDNN operators differ in bfloat16"
    assert notes_of(resnet18(width=16), half=True)[-1].startswith(note)
    assert notes_of(resnet18(width=16)) == (FOLDED, PACKED)


def test_other_devices_get_no_note_about_onednn() -> None:
    """Convolutions there are cuDNN's or another library's."""
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    with torch.device("meta"):
        elsewhere = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    assert packable(plain)
    assert not packable(elsewhere)
    assert notes_of(nn.Sequential(nn.Flatten())) == ()
