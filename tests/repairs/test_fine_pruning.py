import pytest
import torch
from torch import nn

from fedmend.errors import ModelError
from fedmend.local_training import LocalTraining
from fedmend.repairs import Context, FinePruning
from fedmend.repairs.repair_report import NeuronDetails

IMAGES = torch.zeros(8, 1, 1, 3)
IMAGES[torch.arange(8), 0, 0, torch.arange(8) % 2] = 1.0
LABELS = torch.arange(8) % 2
GENTLE = LocalTraining(epochs=2, batch_size=4, lr=1e-4)


def net(*, norm: bool) -> nn.Sequential:
    """Channels look at pixels 0 (least), 1 (more) and 2, which is dark in all clean images and sends to class 0."""
    convolution = nn.Conv2d(1, 3, (1, 3))
    head = nn.Linear(3, 2)
    with torch.no_grad():
        convolution.weight.copy_(
            torch.eye(3).view(3, 1, 1, 3) * torch.tensor([1.0, 2.0, 9.0]).view(3, 1, 1, 1)
        )
        convolution.bias.zero_()  # type: ignore[union-attr]
        head.weight.copy_(torch.tensor([[4.0, 0, 9], [0, 4, 0]]))
        head.bias.copy_(torch.tensor([0.0, 0.5]))
    layers = [nn.BatchNorm2d(3)] if norm else []
    return nn.Sequential(convolution, *layers, nn.LeakyReLU(), nn.Flatten(), head).eval()


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "normalised"])
def test_dormant_channels_go_and_stay_at_zero(norm: bool) -> None:
    candidate = FinePruning(training=GENTLE)(net(norm=norm), (), Context(images=IMAGES, labels=LABELS))
    model = candidate.model
    assert candidate.details == NeuronDetails({"0": (2,)}, 3)
    assert candidate.summary == "1 of 3 channels were pruned and the rest fine-tuned on 8 images"
    assert not bool(model[0].weight[2].any())  # type: ignore[index]
    assert not any(bool(layer.bias[2].any()) for layer in model[: 2 if norm else 1])  # type: ignore[index]
    assert bool(model[0].weight[:2].any())  # type: ignore[index]
    assert not torch.equal(model[0].weight[0], net(norm=norm)[0].weight[0])  # type: ignore[index]
    stamped = IMAGES.clone()
    stamped[..., 2] = 1
    model.eval()
    assert model(stamped).argmax(1).tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("max_drop", "pruned"),
    [(0.04, (2,)), (0.49, (2,)), (0.5, (0, 2))],
    ids=["the paper's", "half is too much", "half is allowed"],
)
def test_the_order_is_that_of_the_activation_and_ends_with_the_accuracy(
    max_drop: float, pruned: tuple[int, ...]
) -> None:
    """Without channel 0, the least active of the two that matter, half of the images are lost."""
    method = FinePruning(max_drop=max_drop, training=GENTLE)
    candidate = method(net(norm=False), (), Context(images=IMAGES, labels=LABELS))
    assert candidate.details == NeuronDetails({"0": pruned}, 3)


def test_a_model_without_a_convolution_is_refused() -> None:
    with pytest.raises(ModelError, match="runs no convolution"):
        FinePruning()(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), (), Context(images=IMAGES, labels=LABELS))
