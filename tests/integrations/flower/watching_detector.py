"""A detector for federations of a tiny net: backdoored if its mark is above 100."""

from __future__ import annotations

import sys

from fedmend.detection import Case, Finding, Need
from fedmend.progress import Progress


class Watching:
    needs = frozenset({Need.REFERENCE})

    def __call__(self, case: Case, rng: object, progress: Progress) -> Finding:
        sys.audit("test.scan")  # a moment at which a test may kill the server
        high = float(case.suspect.mark)  # type: ignore[arg-type]
        verdict = "backdoored" if high > 100 else "clean"
        return Finding("watching", verdict, f"The mark is {high:.1f}.", high, 100.0)


make = Watching
