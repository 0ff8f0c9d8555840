"""An attacker that hides its backdoor from pruning (federated-pruning paper, 5.5.1, after Liu et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from fedmend.pruning import (
    channel_mask,
    held,
    locate,
    mean_activations,
    pruning_sequence,
    set_to_zero,
)


@contextmanager
def without_dormant_channels(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Hold the less active half of the last convolution's channels at zero during training.

    The backdoor then lies in the active channels, which pruning can't remove without losing accuracy. At the end, the
    dormant channels' weights and BatchNorm statistics are restored.

    Args:
        model: trained in place in this context.
        images: the attacker's clean images, uint8 (N, C, H, W), to measure activity on.

    Raises:
        ModelError: the model has no convolution whose channels can be pruned.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sequence = pruning_sequence(mean_activations(model, images))
    point, dormant = locate(model, images), sequence[: len(sequence) // 2].tolist()
    mask = channel_mask(point, dormant)
    set_to_zero(model, mask)
    with held(model, mask):
        yield
    after = model.state_dict()
    for name, zero in mask.items():
        after[name][zero] = before[name][zero]
    for norm in point.norms:  # statistics of channels that were zero would break them once they are back
        for kind in ("running_mean", "running_var"):
            if f"{norm}.{kind}" in after:
                after[f"{norm}.{kind}"][dormant] = before[f"{norm}.{kind}"][dormant]
