"""Objects other than weights in a pickle: what is said about them, since none of them is ever made."""

from __future__ import annotations

from fedmend.checkpoints.file_contents import FileContents
from fedmend.checkpoints.stored_tensors import StoredTensor, UnusableTensor
from fedmend.checkpoints.torch_files import Pickled
from fedmend.checkpoints.wording import short
from fedmend.errors import CheckpointError

_CODE_MODULES = frozenset(
    {
        *(
            "asyncio",
            "code",
            "codeop",
            "commands",
            "ctypes",
            "importlib",
            "marshal",
            "nt",
            "os",
            "pdb",
            "posix",
        ),
        *(
            "pty",
            "pydoc",
            "runpy",
            "shutil",
            "socket",
            "subprocess",
            "sys",
            "timeit",
            "torch.hub",
            "webbrowser",
        ),
    }
)
_CODE_FUNCTIONS = ("__import__", "breakpoint", "compile", "eval", "exec", "execfile", "open")
"""What nothing beside weights needs. Reading is safe without these lists: they only warn."""

_ADVICE = "ask for the weights as a .safetensors file"


def check_objects(pickled: Pickled, contents: FileContents) -> None:
    """Refuse a pickle that would run commands, or that holds objects rather than weights.

    Raises:
        CheckpointError: it is one; the message continues "FILE ...".
    """
    for name in sorted(pickled.names):
        module, _, function = name.rpartition(".")
        in_builtins = module in ("builtins", "__builtin__") and function in _CODE_FUNCTIONS
        if in_builtins or module in _CODE_MODULES or module.partition(".")[0] in _CODE_MODULES:
            raise CheckpointError(
                f"holds Python code ({short(name)}) that would run when unpickled, which weights never need; nothing "
                f"was run. It may be an attack: {_ADVICE}"
            )
    if contents.entries or contents.lists:
        return
    for found in contents.objects.values():
        if isinstance(found.state, dict) and "_parameters" in found.state and "_modules" in found.state:
            raise CheckpointError(
                f"holds a whole pickled model ({short(found.name)}) rather than its weights; nothing was run. Save "
                f"model.state_dict(), or {_ADVICE}"
            )
    if isinstance(pickled.value, StoredTensor | UnusableTensor):
        raise CheckpointError("holds a single tensor; expected a state_dict, or a dict with one in it")
    if contents.objects:
        name = next(iter(contents.objects.values())).name
        raise CheckpointError(
            f"holds Python objects ({short(name)}) and no tensors; nothing was run. Save the model's state_dict(), or "
            f"{_ADVICE}"
        )
    if not isinstance(pickled.value, dict):
        raise CheckpointError(
            f"holds a value of type {type(pickled.value).__name__}; expected a state_dict, or a dict with one in it"
        )
