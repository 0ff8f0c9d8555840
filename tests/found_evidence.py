"""The evidence of a patch that speaks for a backdoor in every respect."""

from fedmend.detection.patch_evidence import Evidence

FOUND = Evidence(
    target=3,
    target_name="cat",
    mse=50.0,
    reasr=0.95,
    reference_agreement=0.1,
    reference_accuracy=0.9,
    mask_fraction=0.05,
    num_classes=10,
    converged=True,
)
