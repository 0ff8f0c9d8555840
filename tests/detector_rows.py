"""The detectors that the contract tests run: a row each, with what it can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from favourite_detector import Favourite
from fedmend.detection import (
    DETECTORS,
    ClassInversion,
    Detector,
    GeneratedTriggers,
    Schedule,
)
from fedmend.detection.search.aimed_search import AimedSearch
from fedmend.detection.search.neuron_triggers import NeuronTriggers


@dataclass(frozen=True)
class Row:
    """A detector and what it can do.

    Attributes:
        make: as it is run here; ``brief``: the same in little time, for tests that don't look at the verdict.
        needs_reference: it can't do without one.
        names_target: its first target is the attacker's.
        recovers_trigger: its first target has a trigger that works on other images, and holds most of the planted one
            or lies mostly within it.
        refused: settings that are out of range.
        needs_labels: it can't do without them.
        judges_images: it finds the planted backdoor in poisoned images, not in the model.
        images: how many it is shown.
        deterministic: it draws nothing.
        finds_patch: it finds the planted patch in so small a net; its own tests have a net in which it does.
        compares_classes: it is shown the world of nine classes.
    """

    make: Callable[..., Detector]
    brief: Callable[..., Detector]
    needs_reference: bool
    names_target: bool
    recovers_trigger: bool
    refused: tuple[dict[str, Any], ...] = ()
    needs_labels: bool = False
    judges_images: bool = False
    images: int = 12
    deterministic: bool = False
    finds_patch: bool = True
    compares_classes: bool = False


# The paper's settings for CIFAR-10 and GTSRB are chosen for those and make no sense on images this small. That for
# MNIST weighs a mask's pixels for images of 28x28; a pixel of 12x12 is more of the image.
SMALL = {"beta": 0.03, "steps": 250}
PAPER = DETECTORS["contrastive-paper-mnist"]
ABS, MM_BD, INSPECT = DETECTORS["abs"], DETECTORS["mm-bd"], DETECTORS["neuron-inspect"]
CLUSTERS = DETECTORS["activation-clustering"]
INVERTED = ClassInversion(100, batches=1, batch_size=24, schedule=Schedule(0.02, patience=4, stop_after=20))
GENERATED = GeneratedTriggers(150, batch_size=18, schedule=Schedule(0.02, success=0.95, stop_after=20))
QUICKLY = {"effort": "quick", "search": AimedSearch(explore_steps=4, refine_steps=2)}


def comparing(name: str, search: ClassInversion | GeneratedTriggers, *refused: dict[str, Any]) -> Row:
    """A detector that searches a trigger for every class."""
    return Row(
        lambda **changes: DETECTORS[name](**({"search": search} | changes)),
        lambda **changes: DETECTORS[name](**({"search": replace(search, rounds=2)} | changes)),
        needs_reference=False,
        names_target=True,
        recovers_trigger=True,
        refused=refused,
        images=54,
        compares_classes=True,
    )


ROWS = {
    "abs": Row(
        ABS,
        lambda **changes: ABS(**({"search": NeuronTriggers(steps=5)} | changes)),
        needs_reference=False,
        names_target=True,
        recovers_trigger=True,
        refused=({"images": 0}, {"reasr": 1.5}, {"passes": 0}, {"neurons": 3}),
        finds_patch=False,
    ),
    "activation-clustering": Row(
        CLUSTERS,
        CLUSTERS,
        needs_reference=False,
        names_target=True,
        recovers_trigger=False,
        refused=({"components": 0}, {"silhouette": 1.5}, {"size": -0.1}),
        needs_labels=True,
        judges_images=True,
        images=160,
    ),
    "differential": Row(
        DETECTORS["differential"],
        lambda **changes: DETECTORS["differential"](**(QUICKLY | changes)),
        True,
        True,
        True,
        ({"effort": "endless"}, {"half": 2}, {"layer": "conv1"}),
    ),
    "contrastive-paper-mnist": Row(
        lambda **changes: PAPER(**(SMALL | changes)),
        lambda **changes: PAPER(**({"beta": 0.03, "steps": 5} | changes)),
        True,
        True,
        True,
        (
            *({"alpha": float("nan")}, {"alpha": -1.0}, {"beta": -0.1}),
            *({"layer": 3}, {"steps": 0}, {"stepz": 3}),
        ),
    ),
    "mm-bd": Row(
        lambda **changes: MM_BD(**({"restarts": 10, "steps": 100} | changes)),
        lambda **changes: MM_BD(**({"restarts": 4, "steps": 5} | changes)),
        needs_reference=False,
        names_target=True,
        recovers_trigger=False,
        refused=({"significance": 2.0}, {"restarts": 0}, {"lr": 0.0}, {"image_shape": (0, 12, 12)}),
    ),
    "neuron-inspect": Row(
        INSPECT,
        INSPECT,
        needs_reference=False,
        names_target=True,
        recovers_trigger=False,
        refused=({"limit": 0.0}, {"sparse": -1.0}, {"sparse": 0.0, "smooth": 0.0, "persistent": 0.0}),
        deterministic=True,
        finds_patch=False,
    ),
    "deep-inspect": comparing(
        "deep-inspect", GENERATED, {"image_shape": (3, 32)}, {"inverted": 0}, {"limit": -1.0}
    ),
    "neural-cleanse": comparing("neural-cleanse", INVERTED, {"limit": 0.0}, {"search": 3}, {"stepz": 3}),
    "tabor": comparing("tabor", INVERTED, {"sparsity": -1.0}, {"weights": None}, {"limit": float("inf")}),
    "another's": Row(Favourite, Favourite, needs_reference=False, names_target=False, recovers_trigger=False),
}
