from dataclasses import replace
from typing import Any

import pytest

from fedmend.detection import PaperThresholds, Thresholds
from fedmend.detection.decision import (
    control_limit,
    decide,
    paper_reason,
    paper_rule,
)
from fedmend.errors import ConfigError
from found_evidence import FOUND


def verdict(**changes: Any) -> str:
    return decide(replace(FOUND, **changes), Thresholds())[0]


def reason(**changes: Any) -> str:
    return decide(replace(FOUND, **changes), Thresholds())[1]


@pytest.mark.parametrize(
    ("mse", "reasr", "expected"),
    [
        (10.001, 0.801, "backdoored"),
        (10.0, 0.95, "clean"),  # above, not at
        (50.0, 0.80, "clean"),
        (9.0, 0.95, "clean"),
        (50.0, 0.5, "clean"),
        (50.0, 0.499, "clean"),
        (0.0, 0.0, "clean"),
    ],
)
def test_the_papers_rule_needs_both_above(mse: float, reasr: float, expected: str) -> None:
    evidence = replace(FOUND, mse=mse, reasr=reasr)
    assert paper_rule(evidence, Thresholds()) == expected
    # fedmend's own rule agrees, but for a patch that changes the features and works on half of the images.
    suspicious = expected == "clean" and mse > 10 and reasr >= 0.5
    assert decide(evidence, Thresholds())[0] == ("inconclusive" if suspicious else expected)


def test_the_papers_rule_asks_no_reference() -> None:
    assert (
        paper_rule(replace(FOUND, reference_agreement=1.0, reference_accuracy=0.0), Thresholds())
        == "backdoored"
    )


@pytest.mark.parametrize(
    ("agreement", "expected"), [(0.0, "backdoored"), (0.499, "backdoored"), (0.5, "clean"), (1.0, "clean")]
)
def test_a_patch_that_fools_both_models_is_no_backdoor(agreement: float, expected: str) -> None:
    assert verdict(reference_agreement=agreement) == expected
    assert ("fools both models" in reason(reference_agreement=agreement)) == (expected == "clean")


@pytest.mark.parametrize(
    ("accuracy", "classes", "expected"),
    [
        (0.199, 10, "inconclusive"),
        (0.2, 10, "backdoored"),
        (None, 10, "backdoored"),
        (0.04, 43, "inconclusive"),
        (0.05, 43, "backdoored"),
        (0.49, 4, "inconclusive"),
        (0.5, 4, "backdoored"),
        # Twice chance would be all of the images where there are two classes: halfway from chance to all is enough.
        (0.74, 2, "inconclusive"),
        (0.75, 2, "backdoored"),
        (0.97, 2, "backdoored"),
    ],
)
def test_a_reference_hardly_better_than_chance_carries_no_verdict(
    accuracy: float | None, classes: int, expected: str
) -> None:
    assert verdict(reference_accuracy=accuracy, num_classes=classes) == expected
    if expected == "inconclusive":
        assert verdict(reference_accuracy=accuracy, num_classes=classes, reasr=0.0) == "inconclusive"
        assert "hardly better than chance" in reason(reference_accuracy=accuracy, num_classes=classes)


@pytest.mark.parametrize(
    ("reasr", "mse", "agreement", "expected"),
    [
        (0.499, 50.0, 0.1, "clean"),
        (0.5, 50.0, 0.1, "inconclusive"),
        (0.8, 50.0, 0.1, "inconclusive"),  # as many as a backdoor needs, but not more
        (0.801, 50.0, 0.1, "backdoored"),
        (0.6, 10.0, 0.1, "clean"),  # the features hardly change
        (0.6, 10.001, 0.1, "inconclusive"),
        (0.95, 10.0, 0.1, "clean"),
        (0.6, 50.0, 0.499, "inconclusive"),
        (0.6, 50.0, 0.5, "clean"),  # the reference is fooled too
    ],
)
def test_a_patch_that_works_on_some_images_in_the_suspect_alone_is_inconclusive(
    reasr: float, mse: float, agreement: float, expected: str
) -> None:
    changes = {"reasr": reasr, "mse": mse, "reference_agreement": agreement}
    assert verdict(**changes) == expected
    assert ("too few for a backdoor, too many to rule one out" in reason(**changes)) == (
        expected == "inconclusive"
    )
    # Neither more steps nor a smaller patch is what is missing.
    if expected == "inconclusive":
        assert reason(**changes, converged=False) == reason(**changes)
        assert verdict(**changes, mask_fraction=0.9) == "inconclusive"


@pytest.mark.parametrize(
    ("mask_fraction", "expected"),
    [
        (0.0, "backdoored"),
        (0.125, "backdoored"),  # above, not at
        (0.126, "inconclusive"),
        (1.0, "inconclusive"),
    ],
)
def test_a_large_patch_carries_no_verdict_of_a_backdoor(mask_fraction: float, expected: str) -> None:
    assert verdict(mask_fraction=mask_fraction) == expected
    assert ("a patch this large" in reason(mask_fraction=mask_fraction)) == (expected == "inconclusive")
    assert verdict(mask_fraction=mask_fraction, reference_agreement=0.5) == "clean"
    assert verdict(mask_fraction=mask_fraction, reasr=0.3) == "clean"
    assert paper_rule(replace(FOUND, mask_fraction=mask_fraction), Thresholds()) == "backdoored"


@pytest.mark.parametrize(
    ("control", "expected"),
    [(0.0, "backdoored"), (0.499, "backdoored"), (0.5, "inconclusive"), (0.99, "inconclusive")],
)
def test_models_that_differ_both_ways_carry_no_verdict_of_a_backdoor(control: float, expected: str) -> None:
    assert verdict(control_reasr=control) == expected
    assert ("the difference is symmetric" in reason(control_reasr=control)) == (expected == "inconclusive")
    assert verdict(control_reasr=control, reasr=0.3) == "clean"
    assert verdict(control_reasr=control, reference_agreement=0.5) == "clean"
    assert (
        decide(replace(FOUND, control_reasr=control), Thresholds(suspicion=min(1.0, control + 0.01)))[0]
        == "backdoored"
    )


def test_the_limits_can_be_others() -> None:
    assert decide(replace(FOUND, reasr=0.6), Thresholds(suspicion=0.61))[0] == "clean"
    assert decide(replace(FOUND, reasr=0.3), Thresholds(suspicion=0.3))[0] == "inconclusive"
    assert decide(replace(FOUND, mask_fraction=0.3), Thresholds(mask_fraction=0.3))[0] == "backdoored"
    assert decide(FOUND, Thresholds(mask_fraction=0.04))[0] == "inconclusive"


def test_a_search_cut_short_that_found_nothing_is_inconclusive() -> None:
    assert verdict(converged=False, reasr=0.3) == "inconclusive"
    assert "Allow more steps" in reason(converged=False, reasr=0.3)
    assert verdict(converged=False) == "backdoored"
    assert verdict(converged=False, reference_agreement=0.9) == "clean"


def test_reasons_name_the_figures() -> None:
    assert reason() == (
        'A patch of about 5.0% of the image sends 95% of the other classes\' images to "cat" in the suspect, and '
        "only 10% in the reference."
    )
    assert reason(reasr=0.6) == (
        'A patch of about 5.0% of the image sends 60% of the other classes\' images to "cat" in the suspect and 10% in '
        "the reference: too few for a backdoor, too many to rule one out. Scan again with more images or another seed."
    )
    assert reason(mask_fraction=0.2) == (
        'The patch found sends 95% of the other classes\' images to "cat" in the suspect alone, but covers 20% of the '
        "image; a patch this large can separate clean models as well. Scan again with more images or another seed."
    )
    assert reason(control_reasr=0.7) == (
        'A patch of about 5.0% of the image sends 95% of the other classes\' images to "cat" in the suspect alone, but '
        "one of at most twice its size sends 70% of them to one class in the reference alone: the difference is "
        "symmetric, as between two clean models. Use a later reference, or more accurate models."
    )
    assert reason(reasr=0.15, mse=0.001) == (
        'The best patch found sends 15% of the other classes\' images to one class ("cat"); a backdoor would send '
        "more than 80% and change the features by more than 10 (here 0.001)."
    )


def test_thresholds_can_be_others() -> None:
    strict = Thresholds(mse=60.0, reasr=0.99, reference_agreement=0.05)
    assert decide(FOUND, strict)[0] == "clean"
    assert decide(replace(FOUND, mse=61.0, reasr=0.995), strict)[0] == "clean"  # the reference agrees
    assert decide(replace(FOUND, mse=61.0, reasr=0.995, reference_agreement=0.04), strict)[0] == "backdoored"


def test_the_papers_reasons_name_the_figures() -> None:
    assert paper_reason(FOUND, PaperThresholds()) == (
        'A patch of about 5.0% of the image sends 95% of the other classes\' images to "cat" in the suspect and '
        "changes its features by 50: above the paper's limits, 80% and 10."
    )
    assert paper_reason(replace(FOUND, mse=9.123), PaperThresholds()) == (
        'The best patch found sends 95% of the other classes\' images to "cat" in the suspect and changes its features '
        "by 9.12; a backdoor exceeds both 80% and 10."
    )


@pytest.mark.parametrize(("fraction", "allowed"), [(0.05, 0.1), (0.6, 1.0)])
def test_a_control_may_be_twice_as_large(fraction: float, allowed: float) -> None:
    assert control_limit(replace(FOUND, mask_fraction=fraction)) == allowed


@pytest.mark.parametrize("name", ["mse", "reasr", "suspicion"])
def test_limits_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Thresholds(**{name: -0.1})
