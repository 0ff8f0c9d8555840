from dataclasses import replace
from typing import Any

import pytest

from fedmend.detection import covered_families
from fedmend.detection.comparing import Comparison
from fedmend.detection.covered_families import coverage, warnings
from fedmend.detection.difference_rule import Evidence

FAMILIES = ("patch, all-to-one", "patch, one-to-one", "addition, all-to-one", "addition, one-to-one")
IN_BOTH = "in both models"
EMPTY = Evidence((), (), None, ("cat", "dog", "owl"), ())


def searched(*numbers: int) -> tuple[Comparison, ...]:
    return tuple(Comparison(FAMILIES[number], (), None, 1, 0.0) for number in numbers)


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {
        ("standard", FAMILIES[0]): (38, 40),
        ("standard", FAMILIES[3]): (0, 40),
        ("standard", IN_BOTH): (3, 5),
    }
    monkeypatch.setattr(covered_families, "measured_share", lambda *of: shares.get(of))


def test_what_was_searched_with_its_measured_share() -> None:
    covered = coverage(replace(EMPTY, comparisons=searched(0, 1, 2), not_searched=FAMILIES[3:]), "standard")
    assert tuple(each.family for each in covered) == (*FAMILIES, IN_BOTH)
    assert [each.searched for each in covered[:-1]] == [True, True, True, False]
    assert [(each.found, each.measured) for each in covered] == [(38, 40), *[(None, None)] * 4]
    assert [each.why_not for each in covered[:-1]] == ["", "", "", "only with the effort exhaustive"]
    assert [each.sizes for each in covered[:3]] == [
        "up to 30% of the image, with two classes up to 16%",
        "up to 4% of the image",
        "changes of at most 10% of the pixels' range, root mean square",
    ]
    assert warnings(covered, EMPTY) == ()


def test_why_the_others_were_not() -> None:
    few = coverage(
        replace(EMPTY, comparisons=searched(0, 2), not_searched=(FAMILIES[1], FAMILIES[3])), "exhaustive"
    )
    assert few[1].why_not == few[3].why_not == "too few images of each class, or only two classes"
    (warning,) = warnings(few, EMPTY)
    assert "8 images or more" in warning
    ended = coverage(replace(EMPTY, comparisons=searched(0), not_searched=FAMILIES[3:]), "standard")
    assert ended[1].why_not == ended[2].why_not == "the search ended when another family stood out"
    quick = coverage(replace(EMPTY, comparisons=searched(0), not_searched=FAMILIES[1:]), "quick")
    assert [each.why_not for each in quick[1:-1]] == [
        f"only with the effort {name}" for name in ("standard", "standard", "exhaustive")
    ]
    assert warnings(quick, EMPTY) == ()
    blind = coverage(replace(EMPTY, blind="no gradient"), "standard")
    assert {each.why_not for each in blind} == {"a model can't be searched"}


@pytest.mark.parametrize(
    ("changes", "why_not"),
    [
        ({"together": (Comparison(f"patch, {IN_BOTH}", (), None, 1, 0.0),)}, ""),
        ({}, "the search ended when another family stood out"),
        ({"class_names": ("cat", "dog")}, "it takes three classes"),
        ({"cut": (f"patch, {IN_BOTH}",)}, "the model is large, and the passes of one scan were used up"),
        ({"blind": "no gradient"}, "a model can't be searched"),
    ],
)
def test_whether_what_works_in_both_models_was_searched(changes: dict[str, Any], why_not: str) -> None:
    both = coverage(replace(EMPTY, **({"comparisons": searched(0)} | changes)), "standard")[-1]
    assert (both.family, both.searched, both.why_not) == (IN_BOTH, not why_not, why_not)
    assert (both.found, both.measured) == ((None, None) if why_not else (3, 5))
    assert both.sizes.startswith("patches up to 16% of the image, ")
    assert both.sizes.endswith("for at most 1 target class; they make a scan inconclusive")


@pytest.mark.parametrize(
    ("classes", "words"), [(3, "1 target class;"), (5, "2 target classes;"), (43, "3 target classes;")]
)
def test_which_triggers_in_both_models_were_searched(classes: int, words: str) -> None:
    patches, additions = (
        Comparison(f"{name}, {IN_BOTH}", (), None, 1, 0.0) for name in ("patch", "addition")
    )
    names = tuple(map(str, range(classes)))
    for together, expected in (((patches,), False), ((patches, additions), True)):
        sizes = coverage(replace(EMPTY, together=together, class_names=names), "standard")[-1].sizes
        assert ("changes of at most 10%" in sizes) is expected
        assert words in sizes


@pytest.mark.parametrize(("classes", "told"), [(12, ""), (13, ", to the 12 most promising target classes")])
def test_of_many_classes_pairs_have_few_targets(classes: int, told: str) -> None:
    names = tuple(map(str, range(classes)))
    every, pairs, *_ = coverage(replace(EMPTY, comparisons=searched(0, 1), class_names=names), "standard")
    assert (pairs.sizes, "target" in every.sizes) == (f"up to 4% of the image{told}", False)


@pytest.mark.parametrize(
    ("too_rare", "told", "share"),
    [
        ((), "", (15, 22)),
        ((2,), ", from 2 of 3 source classes", (15, 22)),
        ((0, 2), ", from 1 of 3 source", (None, None)),
    ],
)
def test_source_classes_with_too_few_images_are_named(
    monkeypatch: pytest.MonkeyPatch, too_rare: tuple[int, ...], told: str, share: Any
) -> None:
    monkeypatch.setattr(covered_families, "measured_share", lambda *of: (15, 22))
    evidence = replace(EMPTY, comparisons=searched(0, 1, 2), too_rare=too_rare)
    every, pairs, *_ = covered = coverage(evidence, "standard")
    assert "source classes" not in every.sizes
    assert pairs.sizes.startswith(f"up to 4% of the image{told}")
    assert (pairs.found, pairs.measured) == share
    assert (every.left_out, pairs.left_out) == ((), too_rare)
    assert [f"in {len(too_rare)} of 3 classes" in each for each in warnings(covered, evidence)] == [
        True
    ] * bool(too_rare)
