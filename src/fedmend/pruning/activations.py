"""Mean activation of each channel of a layer on a client's own data (federated-pruning paper, 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmend.errors import DataError, ModelError
from fedmend.inference import batch_size_for, evaluating, pixels_for
from fedmend.progress import Progress, silent
from fedmend.pruning.layers import locate


def mean_activations(
    model: nn.Module, images: Tensor, layer: str | None = None, progress: Progress = silent
) -> Tensor:
    """The mean activation of each channel, in one pass over the images.

    Args:
        model: any module, pixels in [0, 1] to anything; it runs in eval mode and is left as found.
        images: the client's own, uint8 or float in [0, 1], (N, C, H, W).
        layer: a convolution's name (of ``model.named_modules()``); by default the one that runs last. Activations are
            taken after the nonlinearity that follows it, with at most normalisation, dropout and a max-pool between.
            If the nonlinearity is no module, they are taken at the next module's input, flattened or not, which
            includes a functional one.
        progress: called as ``progress("mean activations", batch, batches)``.

    Returns:
        float64 (channels,), on the CPU: means over images and positions.

    Raises:
        DataError: there are no images. ModelError: there is no such convolution, or its activations aren't finite.
    """
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"mean activations need images (N, C, H, W), N at least 1; got {tuple(images.shape)}")
    batches = images.split(batch_size_for(images))
    found = locate(model, images, layer)
    with evaluating(model), torch.no_grad():
        total, count = torch.zeros(found.convolution.out_channels, dtype=torch.float64), 0

        def add(activations: Tensor) -> None:
            nonlocal total, count
            total += activations.double().transpose(0, 1).flatten(1).sum(1).cpu()
            count += activations.numel() // activations.shape[1]

        handles = found.watch(add)
        try:
            for index, batch in enumerate(batches, 1):
                model(pixels_for(model, batch))
                progress("mean activations", index, len(batches))
        finally:
            for handle in handles:
                handle.remove()
    if not bool(total.isfinite().all()):
        raise ModelError("the layer's activations are NaN or infinite; check that the model isn't damaged")
    return total / count
