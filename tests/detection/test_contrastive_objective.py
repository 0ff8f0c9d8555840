import pytest
import torch
from torch import Tensor, nn

from fedmend.detection.contrastive_objective import ContrastiveObjective
from fedmend.detection.model_pair import ModelPair
from fedmend.detection.search.features import FeatureMap
from fedmend.seeds import generator

pytestmark = pytest.mark.usefixtures("one_thread")


class Numbered:
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
    models = [Numbered(torch.cat([each.flatten(), classes])) for each in (suspect, reference)]
    images = clean[:, None, None, None].float()
    clean_outputs = models[0](images), models[1](images)
    contrast = ContrastiveObjective(ModelPair(*models, images, *clean_outputs), 0.1, "aimed")
    stamped = torch.arange(suspect.numel()).view(*suspect.shape, 1, 1, 1).float()
    return contrast.success(stamped, torch.arange(len(classes)), at_least).tolist(), models[1].asked[1:]


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
def contrast() -> ContrastiveObjective:
    """Ms(x) is x and Mc(x) is x swapped; the suspect's logits are x swapped, the reference's x."""
    clean = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.5, 1.0]])[:, None, None]
    pair = two_pixels(KEPT, SWAPPED), two_pixels(SWAPPED, SWAPPED)
    return ContrastiveObjective(
        ModelPair(*pair, clean, pair[0](clean), pair[1](clean)), alpha=0.5, exploration="aimed"
    )


CHOSEN = torch.tensor([[1, 0], [2, 1]])
STAMPED = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [1.0, 0.0]]])[:, :, None, None]


def test_the_searchs_loss_by_hand(contrast: ContrastiveObjective) -> None:
    """Of a patch on the second image and the first, and one on the third and the second: Eq. 1, and SSIM by alpha."""
    # cos((1, 0), (0, 1)) - cos((0, 1), (0.6, 0.8)) = -0.8 and cos((0.6, 0.8), (0.8, 0.6)) - cos((0.8, 0.6), (1, 0))
    # = 0.96 - 0.8; cos((0, 1), (1, 0)) - cos((1, 0), (0.5, 1)) = -0.4472 and cos((1, 0), (0, 1)) - cos((0, 1),
    # (0.6, 0.8)) = -0.8
    ssim = contrast.full.similarity(STAMPED, CHOSEN)
    expected = torch.tensor([(-0.8 + 0.16) / 2, (-0.44721360 - 0.8) / 2]) - 0.5 * ssim
    assert torch.allclose(contrast.loss(STAMPED, CHOSEN), expected, atol=1e-6)


def test_the_coarse_loss_by_hand(contrast: ContrastiveObjective) -> None:
    """cos(Ms(x'), Mc(x)) - cos(Mc(x), Ms(x)): Eq. 1 if Mc(x') were Mc(x)."""
    # cos((1, 0), (0.8, 0.6)) and cos((0.6, 0.8), (0, 1)); cos((0, 1), (1, 0.5)) and cos((1, 0), (0.8, 0.6))
    contrast.reference = contrast.full = None  # neither runs
    # Less cos((0.8, 0.6), (0.6, 0.8)) and cos((0, 1), (1, 0)); cos((1, 0.5), (0.5, 1)) and the first again
    expected = [(0.8 + 0.8) / 2 - (0.96 + 0) / 2, (0.44721360 + 0.8) / 2 - (0.8 + 0.96) / 2]
    assert contrast.coarse(STAMPED, CHOSEN).tolist() == pytest.approx(expected)


def test_after_nine_steps_a_patch_aims_at_the_class_it_pushed_to(contrast: ContrastiveObjective) -> None:
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


def test_an_exploration_by_the_suspect_never_aims(contrast: ContrastiveObjective) -> None:
    contrast.exploration = "suspect"
    losses = [contrast.coarse(STAMPED, CHOSEN).tolist() for _ in range(12)]
    assert losses == [losses[0]] * 12


def test_a_full_exploration_is_by_the_whole_loss(contrast: ContrastiveObjective) -> None:
    contrast.exploration = "full"
    assert torch.equal(contrast.coarse(STAMPED, CHOSEN), contrast.loss(STAMPED, CHOSEN))


def test_how_well_a_patch_works_is_a_matter_of_logits(contrast: ContrastiveObjective) -> None:
    """The reference says 0, 1, 1 of the clean images; with each patch it says the opposite of the suspect."""
    stamped = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
    # The suspect says 1, 1, 0 and 0, 0, 1: of one image of class 0 it sends one to 1, of two of class 1 one to 0.
    assert contrast.success(stamped[:, :, None, None], torch.arange(3), 0.3).tolist() == [1, 1 / 2]
