from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_nets import net, refused, same
from torch import Tensor, nn

from fedmend.checkpoints import load_checkpoint, load_into, save_state
from fedmend.errors import CheckpointError


@pytest.mark.parametrize("form", ["safetensors", "torch", "legacy", "no-extension"])
def test_round_trip(tmp_path: Path, form: str) -> None:
    model, other = net(), net()
    model[1].num_batches_tracked += 5
    path = tmp_path / {"safetensors": "m.safetensors", "no-extension": "model"}.get(form, "m.pt")
    if form in ("torch", "legacy"):
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=form == "torch")
    else:
        save_state(model.state_dict(), path)
    load_checkpoint(str(path), other)
    assert same(model, other)
    assert other[1].num_batches_tracked == 5


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_training_checkpoints_are_unwrapped(tmp_path: Path, key: str, prefix: str) -> None:
    model, other = net(), net()
    state = OrderedDict((prefix + name, value) for name, value in model.state_dict().items())
    torch.save({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}, tmp_path / "m.pt")
    load_checkpoint(tmp_path / "m.pt", other)
    assert same(model, other)


def test_a_prefix_that_belongs_to_the_model_is_put_back(tmp_path: Path) -> None:
    first, second = nn.ModuleDict({"module": net()}), nn.ModuleDict({"module": net()})
    save_state(first.state_dict(), tmp_path / "m.safetensors")
    load_checkpoint(tmp_path / "m.safetensors", second)
    assert same(first, second)


def test_floats_take_the_models_type() -> None:
    model = net()
    load_into(model, {n: v.double() if v.is_floating_point() else v for n, v in net().state_dict().items()})
    assert model[0].weight.dtype == torch.float32


def test_another_number_of_classes(tmp_path: Path) -> None:
    save_state(net(43).state_dict(), tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "checkpoint has 43 classes, the data has 3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.weight"), "lacks '0.weight'"),
        (lambda s: s.update(extra=torch.zeros(1)), "it has 'extra'"),
        (lambda s: s.update({"0.weight": torch.zeros(2, 3, 3, 3)}), r"'0.weight' is \(2, 3, 3, 3\)"),
        (lambda s: s.update({"3.weight": torch.zeros(5, 9)}), "'3.weight'"),
        (lambda s: s.update({"0.bias": torch.zeros(2, dtype=torch.int64)}), "'0.bias' as torch.int64"),
        (lambda s: s["0.bias"].fill_(float("nan")), "NaN or infinite values in '0.bias'"),
        (lambda s: s["1.running_var"].fill_(float("inf")), "NaN or infinite values in '1.running_var'"),
        (lambda s: s["1.running_var"].fill_(-1), "negative variances"),
        (lambda s: s.update({"0.bias": torch.full((2,), 1e300, dtype=torch.float64)}), "infinite"),
    ],
)
def test_what_does_not_fit_the_model(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    state = dict(net().state_dict())
    change(state)
    save_state(state, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", message)


def test_models_with_state_outside_of_tensors() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

    with pytest.raises(CheckpointError, match="_extra_state"):
        load_into(Extra(1, 1), {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})
