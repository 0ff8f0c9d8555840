from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_nets import net, refused
from torch import Tensor, nn

from fedmend.checkpoints import load_into, save_state
from fedmend.errors import CheckpointError


def test_floats_take_the_models_type() -> None:
    model = net()
    load_into(model, {n: v.double() if v.is_floating_point() else v for n, v in net().state_dict().items()})
    assert model[0].weight.dtype == torch.float32


def test_another_number_of_classes(tmp_path: Path) -> None:
    save_state(net(43).state_dict(), tmp_path / "m.safetensors")
    refused(
        tmp_path / "m.safetensors", "checkpoint has 43 classes, the data has 3; use.*name all.* by --classes"
    )
    save_state(net(2).state_dict(), tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "2 classes, the data has 3; use the data it was trained for$")


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
        (lambda s: s.update({"1.num_batches_tracked": torch.tensor(float("nan"))}), "NaN or infinite values"),
        (lambda s: s.update({"1.num_batches_tracked": torch.zeros(2)}), r"'1.num_batches_tracked' is \(2,\)"),
        (lambda s: s.update({"0.weight": s["0.weight"][None]}), r"'0.weight' is \(1, 2, 1, 3, 3\)"),
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


def test_one_part_of_several_is_called_so(tmp_path: Path) -> None:
    save_state({"0.weight": net()[0].weight.detach()}, tmp_path / "model-00001-of-00002.safetensors")
    refused(
        tmp_path / "model-00001-of-00002.safetensors", "lacks '0.bias'.*one part of a checkpoint in several"
    )


def test_models_with_state_outside_of_tensors() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

    with pytest.raises(CheckpointError, match="_extra_state"):
        load_into(Extra(1, 1), {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})
