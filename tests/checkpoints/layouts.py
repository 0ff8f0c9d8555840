"""Files as training tools write them: from the name of a layout to what writes a state dict so."""

import argparse
import datetime
import enum
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from fedmend.checkpoints import save_state

State: TypeAlias = dict[str, Tensor]
Writer: TypeAlias = Callable[[State, Path], None]
COUNTER = "1.num_batches_tracked"


class Colour(enum.Enum):
    RED = 1


class Config(dict):  # type: ignore[type-arg]
    """A dict of a class of its own, as configuration libraries have them."""


def saved(content: Callable[[State], Any], **options: Any) -> Writer:
    return lambda state, path: torch.save(content(state), path, **options)


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: value for name, value in state.items()}


def with_counter(value: Tensor) -> Writer:
    return saved(lambda state: state | {COUNTER: value})


def without_counter(state: State) -> State:
    return {name: value for name, value in state.items() if name != COUNTER}


def arrays(state: State) -> list[Any]:
    return [value.numpy() for value in state.values()]


def adam(state: State) -> dict[str, Any]:
    """What an optimizer of such parameters saves."""
    parameters = [nn.Parameter(v.clone()) for v in state.values() if v.is_floating_point()]
    optimizer = torch.optim.Adam(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def lightning(state: State) -> dict[str, Any]:
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.1",
        "state_dict": OrderedDict({**prefixed("model.")(state), "criterion.weight": torch.ones(3)}),
        "optimizer_states": [adam(state)],
        "hyper_parameters": {"args": argparse.Namespace(lr=0.1), "out": Path("runs")},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.9)}},
    }


def timm(state: State) -> dict[str, Any]:
    return {
        "epoch": 3,
        "arch": "net",
        "state_dict": state,
        "optimizer": adam(state),
        "args": argparse.Namespace(lr=0.1),
        "metric": np.float64(97.1),
        "amp_scaler": {"scale": 65536.0},
    }


def deepspeed(state: State) -> dict[str, Any]:
    shapes = OrderedDict((name, value.shape) for name, value in state.items())
    return {"module": state, "buffer_names": [COUNTER], "optimizer": None, "param_shapes": [shapes]}


def harmless(state: State) -> dict[str, Any]:
    kept = [np.int64(3), np.dtype("f4"), {1, 2}, 1j, bytearray(b"x"), datetime.date(2020, 1, 1), Colour.RED]
    return {"state_dict": state, "kept": kept, "log": np.zeros(5), 7: None, "big": 1 << 2000}


def in_a_class(state: State) -> Any:
    config = Config(weights=Config(state), lr=0.1)
    config.note = "an attribute"  # type: ignore[attr-defined]
    return config


def in_a_tree(state: State) -> dict[str, Any]:
    tree: dict[str, Any] = defaultdict(dict)
    for name, value in state.items():
        layer, _, last = name.partition(".")
        tree[layer][last] = value
    return {"params": dict(tree)}


def write_named_arrays(state: State, path: Path) -> None:
    np.savez_compressed(path, **dict(zip(state, arrays(state), strict=True)))


LAYOUTS: dict[str, Writer] = {
    "m.safetensors": save_state,
    "safetensors called.pt": save_state,
    "torch called.safetensors": saved(dict),
    "legacy torch called.safetensors": saved(dict, _use_new_zipfile_serialization=False),
    "legacy.pt": saved(dict, _use_new_zipfile_serialization=False),
    "legacy with a key.pt": saved(timm, _use_new_zipfile_serialization=False),
    "protocol 4.pt": saved(timm, pickle_protocol=4),
    "protocol 5, legacy.pt": saved(timm, pickle_protocol=5, _use_new_zipfile_serialization=False),
    "no suffix": saved(dict),
    **{
        f"prefix {prefix}pt": saved(prefixed(prefix))
        for prefix in ("module.", "_orig_mod.", "_module.", "model.", "net.", "module._orig_mod.", "a.b.net.")
    },
    "fsdp.pt": saved(
        lambda state: {f"_fsdp_wrapped_module.{n.replace('.', '._orig_mod.')}": v for n, v in state.items()}
    ),
    "averaged model.pt": saved(lambda state: {"n_averaged": torch.tensor(3), **prefixed("module.")(state)}),
    "another key.pt": saved(lambda state: {"net": prefixed("module.")(state), "acc": 97.1, "epoch": 9}),
    "keys in keys.pt": saved(lambda state: {"round": 12, "server": {"global_model": state}}),
    "lightning.ckpt": saved(lightning),
    "timm.pth.tar": saved(timm),
    "deepspeed.pt": saved(deepspeed),
    "harmless objects.pt": saved(harmless),
    "of a class.pt": saved(in_a_class),
    "a tree.pt": saved(in_a_tree),
    "parameters.pt": saved(
        lambda state: {n: nn.Parameter(v, v.is_floating_point()) for n, v in state.items()}
    ),
    "twice the same.pt": saved(lambda state: {"model": state, "state_dict": state}),
    "strided.pt": saved(
        lambda state: {n: v.expand(2, *v.shape).movedim(0, -1)[..., 0] for n, v in state.items()}
    ),
    "float16.pt": saved(
        lambda state: {n: v.half() if v.is_floating_point() else v for n, v in state.items()}
    ),
    "bfloat16.pt": saved(
        lambda state: {n: v.bfloat16() if v.is_floating_point() else v for n, v in state.items()}
    ),
    "bfloat16.safetensors": lambda state, path: save_state({n: v.bfloat16() for n, v in state.items()}, path),
    "float64.pt": saved(lambda state: {n: v.double() for n, v in state.items()}),
    "averaged counter.pt": with_counter(torch.tensor(5.5)),
    "counter of shape (1,).pt": with_counter(torch.tensor([5])),
    "counter of another type.pt": with_counter(torch.tensor(5, dtype=torch.int32)),
    "no counter.pt": saved(without_counter),
    "arrays in order.npz": lambda state, path: np.savez(path, *arrays(state)),
    "arrays without counters.npz": lambda state, path: np.savez(path, *arrays(without_counter(state))),
    "arrays in the order of names.npz": lambda state, path: np.savez(
        path, *arrays(dict(sorted(state.items())))
    ),
    "arrays of one dimension.npz": lambda state, path: np.savez(path, *map(np.atleast_1d, arrays(state))),
    "arrays of columns.npz": lambda state, path: np.savez(
        path, *(np.array(a, "f8", order="F") for a in arrays(state))
    ),
    "named arrays.npz": write_named_arrays,
    "a dict of arrays.pt": saved(lambda state: {"model": {n: v.numpy() for n, v in state.items()}}),
    "a list of arrays.pt": saved(lambda state: {"weights": arrays(state)}),
    "a pickled list of arrays.pkl": lambda state, path: (
        path.write_bytes(pickle.dumps(arrays(state))) and None
    ),
}
