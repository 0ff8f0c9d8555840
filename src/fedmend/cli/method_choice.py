"""From the words of ``--method`` to detectors."""

from __future__ import annotations

from collections.abc import Sequence, Set

from fedmend.cli.known_names import ALL
from fedmend.cli.options import chosen_detector, takes
from fedmend.detection import Detector, DetectorChoice, Effort, Need, all_detectors, default_methods
from fedmend.user_code import is_own


def chosen_detectors(
    methods: Sequence[str], lacks: Set[Need], effort: Effort | None, memory: int | None
) -> Sequence[Detector] | DetectorChoice:
    """The detectors that a command line names.

    With ``all``, an effort and a limit on memory are for those that take one.

    Args:
        methods: names; none for the default. Beside ``all``, those of one's own count.
        lacks: what the case doesn't have.
        effort, memory: see :func:`chosen_detector`.

    Raises:
        ConfigError: there is no such detector, or one that was named takes no effort or limit.
    """
    if ALL not in methods:
        if methods:
            return [chosen_detector(name, effort, memory) for name in methods]
        return DetectorChoice(
            {name: chosen_detector(name, effort, memory) for name in default_methods(lacks)}
        )
    allowed = all_detectors(lacks)
    chosen = {
        name: chosen_detector(
            name,
            effort if takes(detector, "effort") else None,
            memory if takes(detector, "memory") else None,
        )
        for name, detector in allowed.detectors.items()
    }
    chosen |= {name: chosen_detector(name, None) for name in methods if is_own(name)}
    return DetectorChoice(chosen, allowed.left_out)
