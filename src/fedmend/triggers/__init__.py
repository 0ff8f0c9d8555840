"""Triggers: what is done to an image so that a backdoor fires."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedmend.errors import ConfigError
from fedmend.kinds import from_table
from fedmend.seeds import generator
from fedmend.triggers.addition import Addition
from fedmend.triggers.atoms import Atoms, AtomShape
from fedmend.triggers.base import Divisible, Trigger, stamp, stamp_stored
from fedmend.triggers.blend import Blend, NoiseBlend
from fedmend.triggers.box import Box
from fedmend.triggers.drawing import Drawing
from fedmend.triggers.generated import Generated
from fedmend.triggers.patch import Patch, union
from fedmend.triggers.sinusoid import Sinusoid
from fedmend.triggers.warp import Warp
from fedmend.triggers.white_pixels import PixelPattern, Pixels

__all__ = [
    "TRIGGERS",
    "Addition",
    "AtomShape",
    "Atoms",
    "Blend",
    "Box",
    "Divisible",
    "Drawing",
    "Generated",
    "NoiseBlend",
    "Patch",
    "PixelPattern",
    "Pixels",
    "Sinusoid",
    "Trigger",
    "Warp",
    "stamp",
    "stamp_stored",
    "trigger_from_table",
    "union",
]


def _sinusoid(image_shape: tuple[int, int, int], **values: Any) -> Sinusoid:
    return Sinusoid(**values)


TRIGGERS: dict[str, Callable[..., Trigger]] = {
    "atoms": Atoms,
    "pixels": Pixels,
    "box": Box,
    "blend": NoiseBlend,
    "sinusoid": _sinusoid,
    "warp": Warp,
    "generated": Generated,
}
"""Triggers by the names that TOML files use, called by keyword with a table's settings and the images' shape."""


def trigger_from_table(
    table: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    kinds: Mapping[str, Callable[..., Trigger]] = TRIGGERS,
) -> Trigger:
    """The trigger that a table describes, tried on random images.

    Args:
        table: ``kind``, a name in ``kinds`` or ``package.module:factory`` of the user's own, and its settings.
        image_shape: (C, H, W) of the images that it will be stamped on; handed to the factory by keyword.
        kinds: by name.

    Raises:
        ConfigError: the kind is unknown, settings are refused, or what comes out is no :class:`Trigger`: it fails,
            changes the images themselves, or stamps in another way each time.
    """
    trigger: Trigger = from_table(table, kinds, "trigger", image_shape=image_shape)
    name, probe = table["kind"], torch.rand(2, *image_shape, generator=generator(0, "probe"))
    if not callable(getattr(trigger, "apply", None)):
        raise ConfigError(
            f"the trigger {name} must have a method apply(images); got a {type(trigger).__name__}"
        )
    given = probe.clone()
    stamped = stamp(trigger, given)
    if not torch.equal(given, probe):
        raise ConfigError(f"the trigger {name} must leave the images as they are and return new ones")
    if not torch.equal(stamped, stamp(trigger, probe.clone())):
        raise ConfigError(
            f"the trigger {name} must stamp the same images the same way each time; draw what is random once, from a "
            "seed among its settings"
        )
    return trigger
