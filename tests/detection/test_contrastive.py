from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import PAPER_SETTINGS, Contrastive, FeatureMap, Search, contrastive_loss
from fedmend.detection.contrastive import _Contrast
from fedmend.detection.search.ssim import SsimTo
from fedmend.errors import ConfigError, ModelError
from fedmend.parameters import flatten
from fedmend.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")

BRIEF = Contrastive(search=Search(steps=3, explore=3, starts=2))


def by_eq_1(reference_stamped: Tensor, suspect_clean: Tensor, suspect_stamped: Tensor) -> Tensor:
    """Eq. 1 as the paper writes it, with the cosine written out."""

    def sim(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1))

    positive = sim(reference_stamped, suspect_clean).exp()
    negative = sim(suspect_stamped, reference_stamped).exp()
    return -(positive / negative).log().mean(-1)


def test_the_loss_by_hand() -> None:
    """Of two patches on two images each."""
    # cos((1, 0), (1, 1)) = 0.7071 and cos((0, 2), (1, 0)) = 0; cos((3, 4), (4, 3)) = 0.96 and cos((3, 4), (5, 0)) = 0.6
    # cos((2, 2), (1, 1)) = 1 and cos((1, 0), (2, 2)) = 0.7071; cos((4, 3), (3, -4)) = 0 and cos((-4, -3), (4, 3)) = -1
    reference_stamped = torch.tensor([[[1.0, 0.0], [3.0, 4.0]], [[2.0, 2.0], [4.0, 3.0]]])
    suspect_clean = torch.tensor([[[1.0, 1.0], [4.0, 3.0]], [[1.0, 1.0], [3.0, -4.0]]])
    suspect_stamped = torch.tensor([[[0.0, 2.0], [5.0, 0.0]], [[1.0, 0.0], [-4.0, -3.0]]])
    expected = [((0 - 0.70710678) + (0.6 - 0.96)) / 2, ((0.70710678 - 1) + (-1 - 0)) / 2]
    measured = contrastive_loss(reference_stamped, suspect_clean, suspect_stamped)
    assert measured.tolist() == pytest.approx(expected)


def test_the_loss_is_the_papers_first_equation() -> None:
    for seed in range(5):
        features = torch.randn(12, 7, 10, generator=generator(seed), dtype=torch.float64)
        arguments = features[:4], features[4:8], features[8:]
        assert contrastive_loss(*arguments).shape == (4,)
        assert torch.allclose(contrastive_loss(*arguments), by_eq_1(*arguments))


def test_the_loss_at_its_ends() -> None:
    one = torch.tensor([[1.0, 2.0]])
    for clean, stamped, expected in ((one, -one, -2), (-one, one, 2), (one, one, 0)):
        assert contrastive_loss(one[None], clean[None], stamped[None]).tolist() == [pytest.approx(expected)]


def test_the_first_loss_is_equation_4(world: planted.World) -> None:
    """Contrastive, alpha times -SSIM and beta times the mask's L1 norm, at the random start."""
    images = world.images[:10] / 255
    method = Contrastive(alpha=0.7, search=Search(beta=0.02, steps=1))
    found = method(world.backdoored, world.reference, images, generator(3))
    stamped = found.trigger.apply(images)
    with torch.no_grad():
        suspect, reference = world.backdoored, world.reference
        loss = contrastive_loss(reference(stamped)[None], suspect(images)[None], suspect(stamped)[None])
        similarity = SsimTo(images)(stamped[None], torch.arange(10)[None])
        expected = loss - 0.7 * similarity + 0.02 * found.trigger.mask.sum()
    assert found.loss_curve == (pytest.approx(float(expected), abs=1e-5),)


class Answers:
    """Of images whose only pixel is their number; it remembers which it was asked about."""

    def __init__(self, answers: Tensor) -> None:
        self.answers, self.asked = answers.flatten(), list[list[int]]()

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        numbers = images.flatten().long()
        self.asked.append(numbers.tolist())
        logits = nn.functional.one_hot(self.answers[numbers], 10).float()
        return logits, logits


def judged(
    classes: Tensor, suspect: Tensor, reference: Tensor, at_least: float = 0.3
) -> tuple[list[float], list[list[int]]]:
    """How well patches work, by the classes (N,) and the answers (S, N) with each; what the reference was asked.

    The stamped images have the numbers 0, 1, 2, ...
    """
    clean = torch.arange(len(classes)) + suspect.numel()
    models = [Answers(torch.cat([each.flatten(), classes])) for each in (suspect, reference)]
    images = clean[:, None, None, None].float()
    answers = models[0](images), models[1](images)
    contrast = _Contrast(*models, images, answers, Contrastive())
    stamped = torch.arange(suspect.numel()).view(*suspect.shape, 1, 1, 1).float()
    return contrast.works(stamped, torch.arange(len(classes)), at_least).tolist(), models[1].asked[1:]


def test_how_well_a_trigger_works_by_hand() -> None:
    classes = torch.tensor([0, 0, 1, 2, 3])
    # Target 1; of the four images of other classes the suspect sends three there, the reference one of those too.
    # The second patch's target is 3: of the four images of other classes the suspect sends two there. Then 0: none.
    suspect = torch.tensor([[1, 1, 1, 1, 0], [3, 2, 3, 0, 3], [0, 0, 1, 2, 3]])
    reference = torch.tensor([[0, 1, 1, 2, 3], [0, 0, 3, 3, 3], [0, 0, 1, 2, 3]])
    assert judged(classes, suspect, reference) == ([2 / 4, 1 / 4, 0], [[*range(10)]])
    ones = torch.ones(1, 3, dtype=torch.int64)
    assert judged(ones[0], ones, 0 * ones) == ([0], [])  # no image of another class


def test_the_reference_is_asked_about_patches_alone_that_send_enough_to_one_class() -> None:
    """All images are of class 0. Elsewhere those count that the reference would send there, too."""
    classes = torch.zeros(10, dtype=torch.int64)
    two = torch.tensor([1, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    three = torch.tensor([1, 1, 1, 2, 3, 4, 5, 6, 7, 8])
    four = torch.tensor([1, 1, 1, 1, 2, 3, 4, 5, 6, 7])
    fooled = torch.tensor([1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    shares, asked = judged(classes, torch.stack([four, two, three]), fooled.expand(3, 10))
    assert shares == pytest.approx([3 / 10, 2 / 10, 2 / 10])
    assert asked == [[*range(10), *range(20, 30)]]
    shares, asked = judged(classes, torch.stack([two, two]), torch.stack([two, fooled]))
    assert (shares, asked) == (pytest.approx([2 / 10, 2 / 10]), [])
    _, asked = judged(classes, torch.stack([four, two, three]), fooled.expand(3, 10), at_least=0.4)
    assert asked == [[*range(10)]]


def test_patches_judged_at_once_work_as_each_alone() -> None:
    """Forty patches of random answers, more and less hopeless."""
    suspect, reference = torch.randint(4, (2, 40, 12), generator=generator(0))
    classes = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
    shares, [asked] = judged(classes, suspect, reference)
    assert 0 < len(asked) < 40 * 12
    alone = [judged(classes, suspect[[each]], reference[[each]]) for each in range(40)]
    assert shares == [share for [share], _ in alone]
    assert len(asked) == 12 * sum(len(calls) for _, calls in alone)


def two_pixels(feature: Tensor, head: Tensor) -> FeatureMap:
    """Of images of 1x2 pixels: two features, and then two logits."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight.data, model[2].weight.data = feature, head
    return FeatureMap(model.requires_grad_(False), "1")


KEPT, SWAPPED = torch.eye(2), torch.eye(2).flip(0)


@pytest.fixture
def contrast() -> _Contrast:
    """Ms(x) is x and Mc(x) is x swapped; the suspect's logits are x swapped, the reference's x."""
    clean = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.5, 1.0]])[:, None, None]
    pair = two_pixels(KEPT, SWAPPED), two_pixels(SWAPPED, SWAPPED)
    return _Contrast(*pair, clean, (pair[0](clean), pair[1](clean)), Contrastive(alpha=0.5))


CHOSEN = torch.tensor([[1, 0], [2, 1]])
STAMPED = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [1.0, 0.0]]])[:, :, None, None]


def test_the_searchs_loss_by_hand(contrast: _Contrast) -> None:
    """Of a patch on the second image and the first, and one on the third and the second: Eq. 1, and SSIM by alpha."""
    # cos((1, 0), (0, 1)) - cos((0, 1), (0.6, 0.8)) = -0.8 and cos((0.6, 0.8), (0.8, 0.6)) - cos((0.8, 0.6), (1, 0))
    # = 0.96 - 0.8; cos((0, 1), (1, 0)) - cos((1, 0), (0.5, 1)) = -0.4472 and cos((1, 0), (0, 1)) - cos((0, 1),
    # (0.6, 0.8)) = -0.8
    ssim = contrast.similarity(STAMPED, CHOSEN)
    expected = torch.tensor([(-0.8 + 0.16) / 2, (-0.44721360 - 0.8) / 2]) - 0.5 * ssim
    assert torch.allclose(contrast.loss(STAMPED, CHOSEN), expected, atol=1e-6)


def test_the_coarse_loss_by_hand(contrast: _Contrast) -> None:
    """cos(Ms(x'), Mc(x)) - cos(Mc(x), Ms(x)): Eq. 1 if Mc(x') were Mc(x)."""
    # cos((1, 0), (0.8, 0.6)) and cos((0.6, 0.8), (0, 1)); cos((0, 1), (1, 0.5)) and cos((1, 0), (0.8, 0.6))
    contrast.reference = contrast.similarity = None  # neither is asked
    # Less cos((0.8, 0.6), (0.6, 0.8)) and cos((0, 1), (1, 0)); cos((1, 0.5), (0.5, 1)) and the first again
    expected = [(0.8 + 0.8) / 2 - (0.96 + 0) / 2, (0.44721360 + 0.8) / 2 - (0.8 + 0.96) / 2]
    assert contrast.coarse(STAMPED, CHOSEN).tolist() == pytest.approx(expected)


def test_after_nine_steps_a_patch_aims_at_the_class_it_pushed_to(contrast: _Contrast) -> None:
    """The first patch at class 1, by logits (0, 1), the second at class 0; and at another one when it pushes there."""
    contrast.reference = None
    chosen = torch.tensor([[1, 2], [0, 1]])
    pushing = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])[:, :, None, None]
    turned = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])[:, :, None, None]
    unaimed = [contrast.coarse(pushing, chosen).tolist() for _ in range(9)]
    assert unaimed == [unaimed[0]] * 9
    # Cross-entropies of logits (1, 0): 0.31326 for the first class, 1.31326 for the second.
    assert contrast.coarse(turned, chosen).tolist() == pytest.approx([0.81326169, 0.31326169])
    both_to_0 = turned[[1, 1]]
    for _ in range(9):
        contrast.coarse(both_to_0, chosen)
    assert contrast.coarse(both_to_0, chosen).tolist() == pytest.approx([0.31326169, 0.31326169])


def test_a_control_is_not_aimed(contrast: _Contrast) -> None:
    contrast.method = Contrastive().control(0.25)
    losses = [contrast.coarse(STAMPED, CHOSEN).tolist() for _ in range(12)]
    assert losses == [losses[0]] * 12


def test_a_thorough_exploration_is_by_the_whole_loss(contrast: _Contrast, world: planted.World) -> None:
    contrast.method = Contrastive(alpha=0.5, thorough=True)
    assert torch.equal(contrast.coarse(STAMPED, CHOSEN), contrast.loss(STAMPED, CHOSEN))
    curves = {
        method(world.backdoored, world.reference, world.images[:10] / 255, generator(0)).loss_curve[0]
        for method in (BRIEF, replace(BRIEF, thorough=True))
    }
    assert len(curves) == 2


def test_how_well_a_patch_works_is_a_matter_of_logits(contrast: _Contrast) -> None:
    """The reference says 0, 1, 1 of the clean images; with each patch it says the opposite of the suspect."""
    stamped = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
    # The suspect says 1, 1, 0 and 0, 0, 1: of one image of class 0 it sends one to 1, of two of class 1 one to 0.
    assert contrast.works(stamped[:, :, None, None], torch.arange(3), 0.3).tolist() == [1, 1 / 2]


def test_the_papers_settings_are_those_of_a_2() -> None:
    assert {name: (m.alpha, m.search.beta) for name, m in PAPER_SETTINGS.items()} == {
        "mnist": (0.5, 0.01),
        "cifar10": (0.001, 0.0005),
        "gtsrb": (0.001, 0.005),
    }
    assert all(m.search.steps == 500 and m.layer == "logits" for m in PAPER_SETTINGS.values())


def test_the_default_looks_at_the_logits_and_has_a_budget() -> None:
    assert Contrastive().layer == "logits"
    assert Contrastive().search.beta is None


@pytest.mark.parametrize("fails", [False, True])
def test_models_are_left_as_found(world: planted.World, fails: bool) -> None:
    suspect, reference = deepcopy(world.backdoored).train(), deepcopy(world.reference)
    suspect[1].eval()
    suspect[0].weight.requires_grad_(False)
    modes = [module.training for module in suspect.modules()]
    images = world.images[:10] / 255
    if fails:
        with pytest.raises(RuntimeError):
            BRIEF(suspect, reference, torch.cat([images, images], 1), generator(0))
    else:
        BRIEF(suspect, reference, images, generator(0))
    assert [module.training for module in suspect.modules()] == modes
    assert not any(module.training for module in reference.modules())
    assert torch.equal(flatten(suspect.state_dict()), flatten(world.backdoored.state_dict()))
    assert torch.equal(flatten(reference.state_dict()), flatten(world.reference.state_dict()))
    for model, needed in ((suspect, [False, *[True] * 5]), (reference, [True] * 6)):
        assert [parameter.requires_grad for parameter in model.parameters()] == needed
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_hooks for module in model.modules())


def test_dropout_has_no_say(world: planted.World) -> None:
    suspect = nn.Sequential(*deepcopy(world.backdoored), nn.Dropout(0.5)).train()
    images = world.images[:10] / 255
    curves = [
        BRIEF(model, world.reference, images, generator(0)).loss_curve
        for model in (suspect, world.backdoored)
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("layer", ["logits", "3"])
def test_what_is_known_of_clean_images_is_not_asked_again(world: planted.World, layer: str) -> None:
    images, method = world.images[:10] / 255, replace(BRIEF, layer=layer)
    seen: list[int] = []
    suspect = nn.Sequential(*deepcopy(world.backdoored))
    suspect.register_forward_hook(lambda _, inputs, __: seen.append(int(torch.equal(inputs[0], images))))
    with torch.no_grad():
        clean = FeatureMap(suspect, layer)(images), FeatureMap(world.reference, layer)(images)
    found = [method(suspect, world.reference, images, generator(0), clean=each) for each in (None, clean)]
    assert found[0].loss_curve == found[1].loss_curve
    assert sum(seen) == 2  # once above, once of the two searches


def test_the_same_model_twice_is_no_backdoor(world: planted.World) -> None:
    found = Contrastive(search=Search(starts=2))(
        world.backdoored, world.backdoored, world.images[:10] / 255, generator(0)
    )
    assert (found.stop_reason, found.converged) == ("no patch within 12.5% of the image worked", True)


def test_another_layer_is_another_loss(world: planted.World) -> None:
    images = world.images[:10] / 255
    curves = {
        replace(BRIEF, layer=layer)(world.backdoored, world.reference, images, generator(0)).loss_curve
        for layer in ("logits", "0", "3")
    }
    assert len(curves) == 3
    last = replace(BRIEF, layer="5")(world.backdoored, world.reference, images, generator(0)).loss_curve
    assert last in curves


def test_an_unknown_layer_is_refused(world: planted.World) -> None:
    with pytest.raises(ModelError, match=r"no layer 'head'; take logits or one of its own, such as 0, 1, 2"):
        Contrastive(layer="head")(world.backdoored, world.reference, world.images[:10] / 255, generator(0))


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf")])
def test_settings_out_of_range_are_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha must be 0 or more"):
        Contrastive(alpha=alpha)


@pytest.mark.parametrize(("starts", "third"), [(20, 6), (3, 1), (1, 1)])
@pytest.mark.parametrize(("explore", "fewer"), [(25, 15), (2, 1), (1, 1)])
def test_a_control_is_a_shorter_search_in_another_size(
    starts: int, third: int, explore: int, fewer: int
) -> None:
    method = Contrastive(alpha=0.3, search=Search(starts=starts, explore=explore, lr=0.2))
    search = Search(
        starts=third, explore=fewer, early=False, lr=0.2, max_mask_share=0.4, small=1.0, finalists=2
    )
    assert method.control(0.4) == Contrastive(alpha=0.3, search=search, aimed=False)
