"""Another order of the classes, from labels and predictions alone."""

import torch

from fedmend.detection.class_order import other_order

CLASSES, EACH = 50, 12
NAMES = tuple(f"class {number}" for number in range(CLASSES))
LABELS = torch.arange(CLASSES * EACH) % CLASSES


def test_two_classes_of_many_that_trade_places_are_named() -> None:
    """They are a fiftieth of the images each; one other class isn't recognised."""
    predicted = LABELS.clone()
    predicted[LABELS == 3], predicted[LABELS == 4] = 4, 3
    predicted[LABELS == 7] = torch.arange(EACH) % 3 + 10
    said = other_order(predicted, LABELS, NAMES)
    assert said is not None
    assert 'images of "class 3" for its class 4, which is "class 4" here' in said


def test_classes_that_are_taken_for_others_need_not_be_in_another_order() -> None:
    predicted = LABELS.clone()
    predicted[LABELS == 3], predicted[LABELS == 8] = 4, 9
    predicted[torch.isin(LABELS, torch.tensor([4, 9]))] = torch.arange(2 * EACH) % 5 + 20
    assert other_order(predicted, LABELS, NAMES) is None
