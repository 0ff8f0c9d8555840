"""Writing a repaired model, or saying that there is none."""

from __future__ import annotations

from pathlib import Path

import click
from torch import nn

from fedmend.checkpoints import save_state


def save_repaired(model: nn.Module | None, out: Path) -> None:
    """Write the model; without one, warn of a file that an earlier repair left there, which stays as it is."""
    if model is not None:
        save_state(model.state_dict(), out)
    elif out.exists():
        click.echo(
            f"Warning: this repair wrote no model; {out} was there before and is left as it was.", err=True
        )
