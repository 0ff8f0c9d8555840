"""Another order of the classes, from labels and predictions alone."""

import torch

from fedmend.detection.class_order import other_order


def test_two_classes_of_many_that_trade_places_are_named() -> None:
    """They are a thirtieth of the images each; one other class isn't recognised."""
    classes = 30
    labels = torch.arange(20 * classes) % classes
    predicted = labels.clone()
    predicted[labels == 3], predicted[labels == 4] = 4, 3
    predicted[labels == 7] = torch.arange(20) % 3 + 10
    names = tuple(f"class {number}" for number in range(classes))
    said = other_order(predicted, labels, names)
    assert said is not None
    assert 'images of "class 3" for its class 4, which is "class 4" here' in said
    predicted[labels == 4] = 5  # now two classes are taken for others, but don't trade places
    assert other_order(predicted, labels, names) is None
