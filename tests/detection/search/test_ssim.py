import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from fedmend.detection.search.ssim import SsimTo


def pair(shape: tuple[int, int, int, int], noise: float = 0.3) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    clean = torch.rand(shape, generator=random, dtype=torch.float64)
    other = clean + noise * torch.randn(shape, generator=random, dtype=torch.float64)
    return clean, other.clamp(0, 1)


def by_skimage(clean: Tensor, other: Tensor) -> float:
    """Mean of scikit-image's map over the windows that lie wholly inside the image."""
    maps = [
        structural_similarity(
            first.numpy(),
            second.numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            full=True,
        )[1][5:-5, 5:-5]
        for first, second in zip(clean.flatten(0, 1), other.flatten(0, 1), strict=True)
    ]
    return float(np.mean(maps))


def ssim(clean: Tensor, other: Tensor) -> float:
    """Of one version of all the images."""
    [mean] = SsimTo(clean)(other[None], torch.arange(len(clean))[None]).tolist()
    return float(mean)


@pytest.mark.parametrize(
    "shape", [(3, 1, 28, 28), (2, 3, 32, 32), (1, 1, 11, 11), (1, 2, 12, 19), (1, 1, 11, 30)]
)
@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_agrees_with_scikit_image(shape: tuple[int, int, int, int], noise: float) -> None:
    clean, other = pair(shape, noise)
    assert ssim(clean, other) == pytest.approx(by_skimage(clean, other), abs=1e-9)


def test_single_precision_is_close_enough() -> None:
    clean, other = pair((4, 1, 28, 28))
    measured = ssim(clean.float(), other.float())
    assert measured == pytest.approx(by_skimage(clean, other), abs=1e-4)


def test_flat_images_are_no_trouble_in_single_precision() -> None:
    for level in (0.0, 0.3, 1.0):
        flat = torch.full((1, 1, 28, 28), level)
        assert ssim(flat, flat) == pytest.approx(1.0, abs=1e-3)


def test_one_for_the_same_images_and_less_for_others() -> None:
    clean, other = pair((2, 1, 16, 16))
    assert ssim(clean, clean) == pytest.approx(1.0, abs=1e-12)
    assert ssim(clean, 1 - clean) < ssim(clean, other) < 1


def test_each_version_is_compared_with_the_images_that_it_is_of() -> None:
    clean, _ = pair((5, 2, 13, 12))
    chosen = torch.tensor([[3, 0, 3], [1, 4, 0], [2, 3, 1], [4, 4, 2]])
    noise = 0.3 * torch.randn(
        4, 3, 2, 13, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    versions = (clean[chosen] + noise).clamp(0, 1)
    measured = SsimTo(clean)(versions, chosen)
    assert measured.shape == (4,)
    assert measured.tolist() == pytest.approx(
        [by_skimage(clean[own], version) for own, version in zip(chosen, versions, strict=True)]
    )


@pytest.mark.parametrize(("size", "window"), [(8, 7), (7, 7), (10, 9), (4, 3), (1, 1)])
def test_smaller_images_get_the_largest_odd_window_that_fits(size: int, window: int) -> None:
    clean, other = pair((2, 1, size, size))
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    line = torch.exp(-(offsets**2) / 4.5)
    weights = torch.outer(line, line) / line.sum() ** 2
    values = []
    for first, second in zip(clean[:, 0], other[:, 0], strict=True):
        for top in range(size - window + 1):
            for left in range(size - window + 1):
                a = first[top : top + window, left : left + window]
                b = second[top : top + window, left : left + window]
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a = (weights * (a - mean_a) ** 2).sum()
                var_b = (weights * (b - mean_b) ** 2).sum()
                both = (weights * (a - mean_a) * (b - mean_b)).sum()
                luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
                values.append(float(luminance * (2 * both + 9e-4) / (var_a + var_b + 9e-4)))
    assert ssim(clean, other) == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_gradients_are_right() -> None:
    clean, _ = pair((2, 1, 5, 6))
    other = torch.rand(2, 3, 1, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    similarity, chosen = SsimTo(clean), torch.tensor([[1, 0, 1], [0, 0, 1]])
    assert torch.autograd.gradcheck(lambda images: similarity(images, chosen), other.requires_grad_())
