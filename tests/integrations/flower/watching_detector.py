"""A detector for federations of a tiny net: backdoored if a bias of the last layer is above 100."""

from __future__ import annotations

import sys

from fedmend.detection import Case, Finding, Need
from fedmend.progress import Progress


class Watching:
    needs = frozenset({Need.REFERENCE})

    def __call__(self, case: Case, rng: object, progress: Progress) -> Finding:
        sys.audit("test.scan")  # a moment at which a test may kill the server
        high = float(case.suspect[-1].bias.max())  # type: ignore[index]
        verdict = "backdoored" if high > 100 else "clean"
        return Finding("watching", verdict, f"The largest bias is {high:.1f}.", high, 100.0)


make = Watching
