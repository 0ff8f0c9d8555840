"""Which families of backdoors a scan by the differential detector covers, and how reliably."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedmend.detection.base import Covered
from fedmend.detection.calibration import measured_share
from fedmend.detection.comparing import most_leaders
from fedmend.detection.difference_rule import IN_BOTH, Evidence
from fedmend.detection.differential_scan import MOST_TARGETS
from fedmend.detection.search.families import ADDITIONS, PAIR_PATCHES, PATCHES, SMALL_PATCHES

_PAIR_SIZES = f"up to {PAIR_PATCHES.sizes[0]:.0%} of the image"
_PATCH_SIZES = (
    f"up to {PATCHES.sizes[0]:.0%} of the image, with two classes up to {SMALL_PATCHES.sizes[0]:.0%}"
)
_ADDITION_SIZES = f"changes of at most {ADDITIONS.sizes[0]:.0%} of the pixels' range, root mean square"
_EFFORTS = ("quick", "standard", "exhaustive")
_TOO_FEW = "too few images of each class, or only two classes"
_BLIND = "a model can't be searched"
_USED_UP = "the model is large, and the passes of one scan were used up"
_ENDED = "the search ended when another family stood out"


@dataclass(frozen=True)
class _Row:
    """A family and the least effort that searches it."""

    family: str
    sizes: str
    effort: str

    @property
    def of_pairs(self) -> bool:
        return self.family.endswith("one-to-one")


_ROWS = (
    _Row("patch, all-to-one", _PATCH_SIZES, "quick"),
    _Row("patch, one-to-one", _PAIR_SIZES, "standard"),
    _Row("addition, all-to-one", _ADDITION_SIZES, "standard"),
    _Row("addition, one-to-one", _ADDITION_SIZES, "exhaustive"),
)


def coverage(evidence: Evidence, effort: str, *, calibrated: bool = True) -> tuple[Covered, ...]:
    """Every family, with what was measured of those that were searched; nothing was with a search that is cut."""
    covered = (*(_covered(row, evidence, effort) for row in _ROWS), _covered_in_both(evidence, effort))
    return covered if calibrated else tuple(replace(each, found=None, measured=None) for each in covered)


def warnings(covered: tuple[Covered, ...], evidence: Evidence) -> tuple[str, ...]:
    """That more images would have covered more, if so."""
    if evidence.too_rare:
        return (
            f"Backdoors of one source class were not searched for in {len(evidence.too_rare)} of "
            f"{len(evidence.class_names)} classes; that takes 8 images or more of a class.",
        )
    if not any(each.why_not == _TOO_FEW for each in covered):
        return ()
    return (
        "Backdoors of one source class were not searched for; that takes three classes or more, and 8 images or more "
        "of a class.",
    )


def _covered(row: _Row, evidence: Evidence, effort: str) -> Covered:
    if any(each.family == row.family for each in evidence.comparisons):
        found, measured = measured_share(effort, row.family) or (None, None)
        sizes, classes = row.sizes, len(evidence.class_names)
        if row.of_pairs and classes > MOST_TARGETS:
            sizes += f", to the {MOST_TARGETS} most promising target classes"
        if row.of_pairs and evidence.too_rare:
            sizes += f", from {classes - len(evidence.too_rare)} of {classes} source classes"
            if 2 * len(evidence.too_rare) > classes:
                found = measured = None
        left_out = evidence.too_rare if row.of_pairs else ()
        return Covered(row.family, sizes, True, left_out=left_out, found=found, measured=measured)
    return Covered(row.family, row.sizes, False, _why_not(row, evidence, effort))


def _covered_in_both(evidence: Evidence, effort: str) -> Covered:
    """``found`` counts the models that were not called clean."""
    if evidence.together:
        found, measured = measured_share(effort, IN_BOTH) or (None, None)
        return Covered(IN_BOTH, _in_both_sizes(evidence), True, found=found, measured=measured)
    why_not = _ENDED
    if evidence.blind is not None:
        why_not = _BLIND
    elif any(each.endswith(IN_BOTH) for each in evidence.cut):
        why_not = _USED_UP
    elif len(evidence.class_names) < 3:
        why_not = "it takes three classes"
    return Covered(IN_BOTH, _in_both_sizes(evidence), False, why_not)


def _in_both_sizes(evidence: Evidence) -> str:
    triggers = f"patches up to {SMALL_PATCHES.sizes[0]:.0%} of the image"
    if not evidence.together or any(each.family.startswith(ADDITIONS.name) for each in evidence.together):
        triggers += f", {_ADDITION_SIZES}"
    most = most_leaders(len(evidence.class_names))
    return f"{triggers}, for at most {most} target {'class' if most == 1 else 'classes'}; they make a scan inconclusive"


def _why_not(row: _Row, evidence: Evidence, effort: str) -> str:
    if evidence.blind is not None:
        return _BLIND
    if _EFFORTS.index(effort) < _EFFORTS.index(row.effort):
        return f"only with the effort {row.effort}"
    if row.family in evidence.cut:
        return _USED_UP
    if row.family in evidence.not_searched:
        return _TOO_FEW
    return _ENDED
