"""Model files, which may be hostile: reading, fitting weights to a model, and writing."""

from fedmend.checkpoints.fitting import load_checkpoint, load_into
from fedmend.checkpoints.reading import read_state
from fedmend.checkpoints.trigger_files import read_patch, read_trigger, save_trigger
from fedmend.checkpoints.writing import save_state, state_bytes

__all__ = [
    "load_checkpoint",
    "load_into",
    "read_patch",
    "read_state",
    "read_trigger",
    "save_state",
    "save_trigger",
    "state_bytes",
]
