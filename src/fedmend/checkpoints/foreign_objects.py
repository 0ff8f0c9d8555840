"""Objects other than weights in a pickle: what is said about them, since none of them is ever made."""

from __future__ import annotations

from fedmend.checkpoints.file_contents import FileContents
from fedmend.checkpoints.torch_files import Pickled
from fedmend.checkpoints.wording import short
from fedmend.errors import CheckpointError

_RUNS_CODE = frozenset(
    [
        "asyncio",
        "builtins.__import__",
        "builtins.breakpoint",
        "builtins.compile",
        "builtins.eval",
        "builtins.exec",
        "builtins.open",
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
    ]
)
"""Modules and functions that nothing beside weights needs. Reading is safe without this list: it only warns."""

_ADVICE = "ask for the weights as a .safetensors file"


def check_objects(pickled: Pickled, contents: FileContents) -> None:
    """Refuse a pickle that would run commands, or that holds objects rather than weights.

    Raises:
        CheckpointError: it is one; the message continues "FILE ...".
    """
    for name in sorted(pickled.names):
        modern = name.replace("__builtin__.", "builtins.", 1)
        parts = modern.split(".")
        if any(".".join(parts[:count]) in _RUNS_CODE for count in range(1, len(parts) + 1)):
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
    if pickled.names:
        raise CheckpointError(
            f"holds Python objects ({short(min(pickled.names))}) and no tensors; nothing was run. Save the model's "
            f"state_dict(), or {_ADVICE}"
        )
    if not isinstance(pickled.value, dict):
        raise CheckpointError(
            f"holds a value of type {type(pickled.value).__name__}; expected a state_dict, or a dict with one in it"
        )
