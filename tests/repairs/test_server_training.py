import pytest
import torch
from striped import images_and_labels, untrained

from fedmend.errors import ConfigError
from fedmend.local_training import LocalTraining
from fedmend.repairs import Context
from fedmend.repairs.server_training import fine_tune, server_images, shuffled
from fedmend.seeds import generator

IMAGES, LABELS = images_and_labels(10)


def test_every_epoch_has_all_images_in_a_new_order() -> None:
    batches = list(shuffled(10, 4, 2, generator(0)))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 2
    epochs = [torch.cat(each).tolist() for each in (batches[:3], batches[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("images", "steps"),
    [(None, 6), (8, 4), (9, 4), (40, 6)],
    ids=["all", "fewer", "one over", "more than there are"],
)
def test_fine_tuning_counts_its_steps_and_restores_modes(images: int | None, steps: int) -> None:
    model = untrained().eval()
    model[3].train()
    training = LocalTraining(epochs=2, batch_size=4, images_per_epoch=images)
    assert fine_tune(model, IMAGES / 255, LABELS, training, Context()) == steps
    assert [module.training for module in model] == [False, False, False, True, False, False]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_that_diverges_is_an_error() -> None:
    training = LocalTraining(epochs=5, batch_size=4, optimizer="sgd", lr=1e30)
    with pytest.raises(
        ConfigError, match="fine-tuning diverged: weights became NaN or infinite; try a smaller lr"
    ):
        fine_tune(untrained(), IMAGES / 255, LABELS, training, Context())


def test_images_come_to_the_model_as_it_takes_them() -> None:
    model = untrained().double()
    own = server_images(model, Context(images=IMAGES, labels=LABELS), "a test")
    assert own.images.dtype == torch.uint8
    assert own.pixels(model).dtype == torch.float64
    assert len(own) == 10
