"""Backdoor attacks on a federation: poisoning (alone or distributed) and model replacement."""

from fedmend.attacks.lying import false_accuracies, false_activations
from fedmend.attacks.patterns import Shape, atoms, pixels
from fedmend.attacks.poisoning import Poisoning
from fedmend.attacks.replacement import amplify

__all__ = ["Poisoning", "Shape", "amplify", "atoms", "false_accuracies", "false_activations", "pixels"]
