import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.repairs import BenignFeatureUnlearning, Context


class Corner(nn.Module):
    """A head on nine pixels: the middle one tells the class, and a bright corner outvotes it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(9, 2, bias=False)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[:, 4] = torch.tensor([-4.0, 4.0])
            self.head.weight[:, 0] = torch.tensor([8.0, -8.0])

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1) - 0.5 * (torch.arange(9) == 4))
        return logits


def data() -> tuple[Tensor, Tensor]:
    labels = torch.arange(16) % 2
    images = torch.zeros(16, 1, 3, 3)
    images[:, 0, 1, 1] = labels.float()
    return images, labels


def test_unlearning_weakens_what_clean_predictions_do_not_rest_on() -> None:
    images, labels = data()
    method = BenignFeatureUnlearning(batch_size=8, lr=0.2, strength=0.3, rounds=4)
    model = method(Corner(), (), Context(images=images, labels=labels, seed=0)).model
    assert isinstance(model, Corner)
    assert model.head.weight[0, 0].item() < 6
    assert (model(images).argmax(1) == labels).all()


def test_the_report_counts_the_models_steps() -> None:
    images, labels = data()
    method = BenignFeatureUnlearning(batch_size=5, rounds=3, epochs=2, mask_epochs=1, generator_epochs=1)
    candidate = method(Corner(), (), Context(images=images, labels=labels, seed=0))
    assert (candidate.details.steps, candidate.details.images) == (3 * 2 * 4, 16)  # type: ignore[union-attr]


def test_a_model_without_layers_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((1, 2, 3))[:, None] * self.weight

    images, labels = data()
    with pytest.raises(ModelError, match="no linear or convolution layer"):
        BenignFeatureUnlearning()(Bare(), (), Context(images=images, labels=labels))
