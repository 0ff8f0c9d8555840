"""Backdoors that suspect and reference have alike."""

from __future__ import annotations

from fedmend.detection import measured
from quarters import Quarters, TwoTargets, scanned


def test_a_backdoor_in_both_models_is_inconclusive() -> None:
    finding = scanned(Quarters(2), Quarters(2), 40)
    assert finding.verdict == "inconclusive"
    assert 'Both models may be backdoored: small patches send images to "2"' in finding.reason
    assert scanned(Quarters(), Quarters(), 40).verdict == "clean"
    assert scanned(Quarters(2), Quarters(), 40).verdict == "backdoored"


def test_a_faint_backdoor_in_both_models_is_inconclusive() -> None:
    both = Quarters(3, faint=True), Quarters(3, faint=True)
    finding = scanned(*both, 40)
    assert finding.verdict == "inconclusive"
    lead = measured(finding, "lead_addition_in_both_models")
    assert lead is not None
    assert lead.value > 2
    assert measured(scanned(*both, 40, effort="quick"), "lead_addition_in_both_models") is None


def test_two_backdoors_in_both_models_are_inconclusive() -> None:
    finding = scanned(TwoTargets(2), TwoTargets(2), 40)
    assert finding.verdict == "inconclusive"
    assert any(
        f"to {names} in the suspect and in the" in finding.reason for names in ('"1" and "2"', '"2" and "1"')
    )
