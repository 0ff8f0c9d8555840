"""Model files: reading them, which may be hostile, fitting them to a model, and writing them."""

from fedmend.checkpoints.files import (
    load_checkpoint,
    load_into,
    read_state,
    read_trigger,
    save_state,
    save_trigger,
)

__all__ = ["load_checkpoint", "load_into", "read_state", "read_trigger", "save_state", "save_trigger"]
