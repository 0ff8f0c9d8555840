"""Writes a repaired model, or warns of an old file if there is none."""

from __future__ import annotations

from pathlib import Path

import click
from torch import nn

from fedmend.checkpoints import save_state


def save_repaired(model: nn.Module | None, out: Path) -> None:
    """Write the model; without one, warn if ``out`` still holds an earlier repair's, which is kept."""
    if model is not None:
        save_state(model.state_dict(), out)
    elif out.exists():
        click.echo(
            f"Warning: this repair wrote no model; {out} existed before and was not changed.", err=True
        )
