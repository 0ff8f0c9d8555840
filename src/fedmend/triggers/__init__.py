"""Triggers: what is done to an image to make a backdoor answer."""

from fedmend.triggers.patch import Patch, union

__all__ = ["Patch", "union"]
