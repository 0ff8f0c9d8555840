"""Two models that are one: a scan that compares them would always say clean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmend.detection.base import Case
from fedmend.errors import ModelError
from fedmend.seeds import generator

_ADVICE = (
    "a scan compares the suspect with a clean reference, and would call this pair clean whatever is in it: check "
    "both names, and give a reference that was verified"
)
_BLENDS = 7
_ROUNDED = {
    torch.float32: "",
    torch.float16: " after rounding to float16",
    torch.bfloat16: " after rounding to bfloat16",
}


def refuse_same_weights(case: Case) -> None:
    """Refuse a reference that has the suspect's weights, also where one of them was rounded.

    Raises:
        ModelError: it has.
    """
    if case.reference is None:
        return
    suspect, reference = _weights(case.suspect), _weights(case.reference)
    if not suspect or [value.shape for value in suspect] != [value.shape for value in reference]:
        return
    for dtype, rounded in _ROUNDED.items():
        pairs = zip(suspect, reference, strict=True)
        if all(torch.equal(a.to(dtype), b.to(a.device, dtype)) for a, b in pairs):
            raise ModelError(f"suspect and reference have the same weights{rounded}; {_ADVICE}")


@torch.no_grad()
def refuse_same_logits(case: Case) -> None:
    """Refuse a reference that returns the suspect's logits to the last bit, on the images and on blends with noise.

    A suspect that copies the reference on the scan's images alone isn't refused: a search can still find what it hides.

    Args:
        case: with images; its models in eval mode.

    Raises:
        ModelError: it does.
    """
    if case.reference is None or not torch.equal(case.suspect_logits, case.reference_logits):
        return
    pixels = case.pixels[:_BLENDS]
    noise = torch.rand(pixels.shape, generator=generator(0, "blends with noise")).to(pixels)
    blends = (pixels + noise) / 2
    if torch.equal(case.suspect(blends.clone()), case.reference(blends.clone())):
        raise ModelError(f"suspect and reference return the same logits for every image; {_ADVICE}")


def _weights(model: nn.Module) -> list[Tensor]:
    return [value.detach() for value in model.parameters() if value.is_floating_point()]
