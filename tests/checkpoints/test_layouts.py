"""Whatever tool wrote a file, its weights are found; where there are several, fedmend asks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_nets import net, refused, same
from layouts import COUNTER, LAYOUTS, prefixed
from torch import Tensor, nn

from fedmend.checkpoints import load_checkpoint, load_into, save_state
from fedmend.errors import CheckpointError


def trained(seed: int = 0) -> nn.Sequential:
    """A network whose weights every floating-point type holds exactly, and whose buffers aren't those of a new one."""
    torch.manual_seed(seed)
    model = net()
    for name, value in model.state_dict().items():
        value.copy_(5 if name == COUNTER else torch.rand(value.shape).bfloat16())
    return model


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_tools_write_is_read(tmp_path: Path, name: str) -> None:
    model, other = trained(), net()
    LAYOUTS[name](model.state_dict(), tmp_path / name)
    load_checkpoint(tmp_path / name, other)
    model[1].num_batches_tracked.fill_(0 if "no counter" in name or "without counters" in name else 5)
    assert same(model, other)


def within(*names: str) -> nn.Module:
    model: nn.Module = trained()
    for name in reversed(names):
        model = nn.ModuleDict({name: model})
    return model


@pytest.mark.parametrize("names", [("net",), ("module",), ("backbone", "module")])
@pytest.mark.parametrize("written", [(), ("module",)])
def test_a_models_own_prefix_may_be_missing_in_the_file(
    tmp_path: Path, names: tuple[str, ...], written: tuple[str, ...]
) -> None:
    save_state(within(*written).state_dict(), tmp_path / "m.safetensors")
    model = within(*names)
    for parameter in model.parameters():
        parameter.data.zero_()
    load_checkpoint(tmp_path / "m.safetensors", model)
    assert all(map(torch.equal, model.state_dict().values(), trained().state_dict().values()))


RAW, AVERAGED = trained(1).state_dict(), trained(2).state_dict()


def several(**contents: Any) -> dict[str, Any]:
    return {"epoch": 3, **contents}


@pytest.mark.parametrize(
    ("content", "named", "choice"),
    [
        (
            several(weights=RAW, weights_ema=AVERAGED),
            "'weights', 'weights_ema'.*--key",
            {"key": "weights_ema"},
        ),
        (
            several(model=RAW, ema={"shadow": AVERAGED, "decay": 0.9}),
            "'model', 'ema.shadow'.*--key",
            {"key": "ema.shadow"},
        ),
        (several(model=RAW, ema={"shadow": AVERAGED}), "--key", {"key": "ema"}),
        ({**RAW, "ema": AVERAGED}, "--key", {"key": "ema"}),
        (several(model=RAW, averaged=list(AVERAGED.values())), "'averaged'.*--key", {"key": "averaged"}),
        (
            several(state_dict={**prefixed("net.")(RAW), **prefixed("ema_net.")(AVERAGED)}),
            "'net.', 'ema_net.'.*--strip-prefix",
            {"strip_prefix": "ema_net."},
        ),
        ({**RAW, **prefixed("teacher.module.")(AVERAGED)}, "--strip-prefix", {"strip_prefix": "teacher"}),
    ],
)
def test_several_sets_of_weights(tmp_path: Path, content: Any, named: str, choice: dict[str, str]) -> None:
    path, model = tmp_path / "m.pt", net()
    torch.save(content, path)
    refused(path, f"several sets of weights that fit.*{named}")
    load_checkpoint(path, model, **choice)
    assert all(map(torch.equal, model.state_dict().values(), AVERAGED.values()))


@pytest.mark.parametrize(
    "averaged",
    [
        {name: value for name, value in AVERAGED.items() if "running" not in name and name != COUNTER},
        {"shadow_params": [value for _, value in trained(2).named_parameters()]},
    ],
)
def test_averaged_parameters_without_buffers_are_noticed(tmp_path: Path, averaged: dict[str, Any]) -> None:
    torch.save({"model": RAW, "ema": averaged}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", "several sets of weights")
    with pytest.raises(CheckpointError, match=r"lacks '1\.running_mean', '1\.running_var'"):
        load_checkpoint(tmp_path / "m.pt", net(), key="ema")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"key": "state_dict_ema"}, "no weights under the key 'state_dict_ema'; it has 'state_dict'"),
        ({"strip_prefix": "ema."}, r"don't start with 'ema\.'.*'state_dict\.model\.0\.weight'"),
    ],
)
def test_choices_that_the_file_does_not_have(tmp_path: Path, choice: dict[str, str], message: str) -> None:
    torch.save({"state_dict": prefixed("model.")(RAW)}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "m.pt", net(), **choice)


def test_choices_do_not_hinder_a_plain_reference(tmp_path: Path) -> None:
    save_state(RAW, tmp_path / "m.safetensors")
    model = net()
    load_checkpoint(tmp_path / "m.safetensors", model, key="state_dict_ema", strip_prefix="ema.")
    assert torch.equal(model[0].weight, RAW["0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays[:-2], "holds 7 arrays, the model has 9"),
        (lambda arrays: arrays[::-1], r"in another order.*'0\.weight' of shape \(2, 1, 3, 3\).* \(3,\)"),
        (lambda arrays: [*arrays[:-1], np.full(3, np.nan)], r"NaN or infinite values in '3\.bias'"),
        (lambda arrays: [*arrays[:-1], np.array([None] * 3)], "an array of pickled objects"),
    ],
)
def test_arrays_that_do_not_fit(
    tmp_path: Path, change: Callable[[list[Any]], list[Any]], message: str
) -> None:
    np.savez(tmp_path / "m.npz", *change([value.numpy() for value in RAW.values()]))
    refused(tmp_path / "m.npz", message)


def test_names_that_only_wrappers_tell_apart() -> None:
    state: dict[str, Tensor] = {**RAW, "0.module.weight": RAW["0.weight"] + 1}
    state["module.3.weight"] = state.pop("3.weight")
    with pytest.raises(CheckpointError, match="differ only in prefixes"):
        load_into(net(), state)
