import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, Finding, Measure, Target, measured, most_suspicious, recovered


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(images.mul_(0.5)).flatten(1)


def test_a_case_knows_its_pixels_and_logits() -> None:
    """In eval mode, whatever mode the model is in, and the images stay as they are."""
    images = torch.full((2, 1, 1, 2), 255, dtype=torch.uint8)
    case = Case(InPlace().train(), InPlace(), images)
    assert torch.equal(case.pixels, torch.ones(2, 1, 1, 2))
    assert torch.equal(case.suspect_logits, torch.full((2, 2), 0.5))
    assert torch.equal(case.reference_logits, case.suspect_logits)
    assert torch.equal(case.pixels, torch.ones(2, 1, 1, 2))
    assert case.suspect.training


def test_predictions_stand_in_for_labels(world: planted.World) -> None:
    images, labels = world.images[:12], world.labels[:12]
    wrong = nn.Sequential(*world.clean, nn.Linear(4, 4))
    with torch.no_grad():
        wrong[6].weight.copy_(-torch.eye(4))
        wrong[6].bias.zero_()
        by_wrong = wrong(images / 255).argmax(1)
    assert torch.equal(Case(wrong, world.reference, images, labels).truth, labels)
    assert torch.equal(Case(wrong, world.reference, images).truth, labels)
    assert torch.equal(Case(wrong, None, images).truth, by_wrong)
    assert not torch.equal(by_wrong, labels)


def test_class_names_or_numbers(world: planted.World) -> None:
    assert Case(world.clean, class_names=planted.NAMES).class_name(1) == "north-east"
    assert Case(world.clean).class_name(1) == "1"


def finding(verdict: str, **parts: object) -> Finding:
    return Finding("one", verdict, "", 0.0, 0.0, **parts)  # type: ignore[arg-type]


def test_what_is_asked_of_findings() -> None:
    measure = Measure("reasr", "", 0.5, None, "above", "fraction", "", "", "unsure")
    bare, full = Target(0, 0.1), Target(1, 0.2, trigger=planted.patch())
    found = finding("clean", measures=(measure,), targets=(bare, full))
    assert measured(found, "reasr") is measure
    assert measured(found, "mse") is None
    assert recovered(found) is full
    assert recovered(finding("clean", targets=(bare,))) is None
    verdicts = [finding("clean"), finding("inconclusive"), finding("backdoored"), finding("backdoored")]
    assert most_suspicious(verdicts) is verdicts[2]
    assert most_suspicious(verdicts[:2]) is verdicts[1]


def test_class_names_are_safe_to_print_and_to_write() -> None:
    """Whoever makes the case: they come with the data."""
    case = Case(InPlace(), class_names=("Sandal", "\x1b[2K\nCLEAN\udce9"))
    assert case.class_names == ("Sandal", r"\u001b[2K\nCLEAN\udce9")
    assert case.class_name(1) == case.class_names[1]
