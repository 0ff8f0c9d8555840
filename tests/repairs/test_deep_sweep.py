import torch
from striped import images_and_labels, untrained

from fedmend.local_training import LocalTraining
from fedmend.repairs import AugmentationPolicy, Context, DeepSweep, Preprocessed
from fedmend.repairs.augmentations import optical_distortion, shrink_and_restore
from fedmend.seeds import generator

IMAGES, LABELS = images_and_labels(20)
PIXELS = IMAGES / 255
BRIEF = DeepSweep(epochs=2, training=LocalTraining(epochs=1, batch_size=10))
NOTHING = AugmentationPolicy(degrees=0.0, scale=0.0, shift=0.0, bend=0.0, gamma=0.0)


def test_a_policy_draws_from_its_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (AugmentationPolicy()(PIXELS, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first, PIXELS, atol=0.05)
    assert first.shape == PIXELS.shape
    assert bool(((first >= 0) & (first <= 1)).all())


def test_a_policy_of_nothing_changes_nothing() -> None:
    assert torch.allclose(NOTHING(PIXELS, generator(0)), PIXELS, atol=1e-5)


def test_only_the_weights_change_by_default() -> None:
    candidate = BRIEF(untrained(), (), Context(images=IMAGES, labels=LABELS))
    assert type(candidate.model) is type(untrained())
    assert candidate.model.state_dict().keys() == untrained().state_dict().keys()
    assert candidate.summary == "The model was fine-tuned on 2 augmentations of 20 images"
    assert candidate.details.steps == 4  # type: ignore[union-attr]


def test_on_request_the_model_preprocesses_what_it_is_given() -> None:
    method = DeepSweep(epochs=1, training=BRIEF.training, at_inference=True, bend=0.3, shrink=0.5)
    suspect = untrained().eval()
    candidate = method(suspect, (), Context(images=IMAGES, labels=LABELS))
    model = candidate.model
    assert isinstance(model, Preprocessed)
    assert not any(module.training for module in model.modules())
    changed = shrink_and_restore(optical_distortion(PIXELS, torch.full((20,), 0.3)), 0.5)
    assert torch.allclose(model(PIXELS), model.model(changed))
    assert not torch.allclose(model(PIXELS), model.model(PIXELS), atol=1e-3)
    assert candidate.summary.endswith("and preprocesses what it is given")
    plain = DeepSweep(epochs=1, training=BRIEF.training)(
        suspect, (), Context(images=IMAGES, labels=LABELS)
    ).model
    assert not torch.equal(plain[5].weight, model.model[5].weight)  # type: ignore[index]


def test_every_epoch_is_augmented_anew() -> None:
    seen = []

    class Noted(AugmentationPolicy):
        def __call__(self, images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
            seen.append(super().__call__(images, rng))
            return seen[-1]

    DeepSweep(policy=Noted(), epochs=2, training=BRIEF.training)(
        untrained(), (), Context(images=IMAGES, labels=LABELS)
    )
    assert not torch.allclose(seen[0], seen[1])
