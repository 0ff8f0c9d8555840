from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import planted
from fedmend.detection import Covered, Finding, Measure, Target
from fedmend.detection.finding_checks import check_finding
from fedmend.errors import ConfigError
from fedmend.triggers import Addition

MEASURE = Measure(
    "top", "Top", 0.7, 0.9, "above", "fraction", "What is measured.", "What it says.", "innocent"
)
TARGET = Target(3, 0.7, sources=(1, 2), trigger=planted.patch(), variants=(planted.patch(),))
FINDING = Finding("own", "clean", "Nothing was found.", 0.7, 0.9, measures=(MEASURE,), targets=(TARGET,))
NAN = float("nan")
ADDITION = Addition(torch.zeros(1, 12, 12))


def finding(**changes: Any) -> Finding:
    return replace(FINDING, **changes)


def measured(**changes: Any) -> Finding:
    return finding(measures=(MEASURE, replace(MEASURE, **changes)))


def targeted(**changes: Any) -> Finding:
    return finding(targets=(replace(TARGET, **changes),))


@pytest.mark.parametrize(
    "good",
    [
        FINDING,
        finding(suspicious=1, limit=NAN, loss_curve=(0.5, NAN), warnings=("Few images.",)),
        finding(suspicious=NAN, verdict="inconclusive"),
        finding(suspicious=np.float64(0.5)),
        measured(value=NAN, limit=None),
        measured(value=-3.5, scale="plain"),
        targeted(sources=(), trigger=None, variants=()),
        targeted(trigger=ADDITION, variants=(ADDITION, planted.patch())),
        finding(p_value=0.25, coverage=(Covered("patch, all-to-one", "small", True),)),
    ],
)
def test_what_can_be_used_passes(good: Finding) -> None:
    check_finding(good, "Own", 4)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (finding(detector=""), "detector must be text"),
        (finding(verdict="fine"), "verdict must be one of clean, backdoored, inconclusive; got 'fine'"),
        (finding(reason=" "), "reason must be text that isn't empty"),
        (finding(suspicious=torch.tensor(0.5)), r"suspicious must be a number; got a Tensor: use float\("),
        (finding(suspicious=np.float32(0.5)), r"suspicious must be a number; got a float32: use float\("),
        (finding(limit=None), "limit must be a number; got None"),
        (finding(limit=True), "limit must be a number; got True"),
        (finding(suspicious=NAN), "clean with NaN as suspicious"),
        (finding(measures=[MEASURE]), "measures must be a tuple, .* got a list"),
        (finding(measures=MEASURE), "measures must be a tuple"),
        (finding(targets=TARGET), "targets must be a tuple"),
        (finding(targets=(3,)), r"targets\[0\] must be a Target; got 3"),
        (finding(warnings="Few images."), "warnings must be a tuple"),
        (finding(notes=(3,)), r"notes\[0\] must be a str"),
        (
            finding(loss_curve=(torch.tensor(1.0),)),
            r"loss_curve\[0\] must be a float; got a Tensor: use float",
        ),
        (finding(seconds="1"), "seconds must be a number"),
        (finding(settings=None), "settings must be a dict"),
        (measured(key=""), r"measures\[1\].key must be text"),
        (measured(tone="green"), r"measures\[1\].tone must be one of suspicious, innocent, unsure"),
        (measured(scale="percent"), r"measures\[1\].scale must be one of fraction, log, plain"),
        (measured(suspicious_when=">"), r"measures\[1\].suspicious_when must be one of above, below"),
        (measured(value=torch.tensor(0.5)), r"measures\[1\].value must be a number; got a Tensor"),
        (measured(limit="0.5"), r"measures\[1\].limit must be a number"),
        (measured(value=70.0), r'measures\[1\].value must be in \[0, 1\] on the scale "fraction"; got 70'),
        (targeted(target=4), r"targets\[0\].target must be a class from 0 to 3, an int; got 4"),
        (targeted(target=torch.tensor(1)), r"an int; got a Tensor: use int\("),
        (targeted(success=50.0), r"success must be a fraction in \[0, 1\], or NaN; got 50"),
        (finding(poisoned=[1]), "poisoned must be a tuple"),
        (targeted(sources=[1]), "sources must be a tuple"),
        (targeted(sources=(1, 9)), r"sources\[1\] must be a class from 0 to 3"),
        (
            targeted(trigger=torch.zeros(1, 8, 8)),
            "trigger must be a Patch, an Addition or None; got a Tensor",
        ),
        (targeted(variants=(None,)), r"variants\[0\] must be a Patch or Addition; got None"),
        (finding(coverage=("patches",)), r"coverage\[0\] must be a Covered"),
        (finding(p_value=1.5), r"p_value must be in \[0, 1\] or None; got 1.5"),
        (finding(p_value="0.5"), "p_value must be a number"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(bad: Finding, told: str) -> None:
    with pytest.raises(
        ConfigError, match=f"the detector Own returned a Finding that can't be used: .*{told}"
    ):
        check_finding(bad, "Own", 4)


def test_without_a_number_of_classes_any_class_will_do() -> None:
    check_finding(targeted(target=40), "Own", None)
    with pytest.raises(ConfigError, match="a class from 0, an int; got -1"):
        check_finding(targeted(target=-1), "Own", None)
