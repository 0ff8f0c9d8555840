"""Scanning: a suspect, a clean reference and a handful of images to a verdict with its evidence."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from fedmend.acceleration import accelerate
from fedmend.acceleration.half_precision import InHalfPrecision
from fedmend.detection import Answers, Contrastive, FeatureMap
from fedmend.detection.scan_report import Examples, ScanReport, Thresholds, Verdict
from fedmend.errors import DataError, ModelError
from fedmend.evaluation import feature_mse
from fedmend.inference import device_of, frozen, pixels_for
from fedmend.pixels import to_uint8
from fedmend.progress import Progress, silent
from fedmend.seeds import generator
from fedmend.version_info import versions

MIN_IMAGES = 10
POOR_REFERENCE = 2.0
FAIR_REFERENCE = 0.6
_SHOWN = 8


@dataclass(frozen=True)
class Evidence:
    """What the verdict rests on; see :class:`ScanReport` for the measures."""

    mse: float
    reasr: float
    reference_agreement: float
    reference_accuracy: float | None
    mask_share: float
    num_classes: int
    converged: bool
    control_reasr: float | None = None


def scan(
    suspect: nn.Module,
    *,
    reference: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    method: Contrastive | None = None,
    thresholds: Thresholds | None = None,
    control: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> ScanReport:
    """Search a model for a backdoor (contrastive paper, 2.3 to 2.5 and Algorithm 1).

    Args:
        suspect: the model in question: pixels in [0, 1] to logits (N, classes). Left as found.
        reference: a clean model of the same task on the same device, for example an earlier round's. Left as found.
        images: clean images (N, C, H, W), uint8 or float in [0, 1], N at least 10; the paper takes three a class.
        labels: their true classes, int64 (N,). Without them the reference's answers stand in, and a poor
            reference can't be noticed.
        class_names: names for the report.
        method: the inversion method; by default :class:`Contrastive`, which needs no tuning.
        thresholds: limits of the decision rules.
        control: before a verdict of a backdoor, search with the roles swapped (see :func:`decide`); without it such a
            scan takes about two thirds of the time.
        seed: of the search's random starts and choice of images.
        progress: see ``fedmend.progress``.

    Raises:
        DataError: images or labels that can't be used.
        ModelError: the models disagree in their number of classes, or answer NaN.
    """
    method, thresholds = method or Contrastive(), thresholds or Thresholds()
    device = device_of(suspect)
    _check(suspect, reference, images, labels)
    started = time.perf_counter()
    pixels = pixels_for(suspect, images)
    features = FeatureMap(suspect, method.layer)
    with frozen(suspect, reference), torch.no_grad():
        clean = features(pixels), FeatureMap(reference, method.layer)(pixels)
    (clean_features, clean_logits), (_, reference_logits) = clean
    _check_answers(clean_logits, reference_logits, labels, class_names)
    classes = clean_logits.shape[1]
    truth = (reference_logits.argmax(1) if labels is None else labels).to(device)
    if len(truth.unique()) < 2:
        raise DataError("a scan needs images of two classes or more; all that were given are of one class")

    pair = suspect, reference
    if method.layer == "logits":
        with frozen(*pair):
            pair = (
                accelerate(suspect, pixels, half=method.half).model,
                accelerate(reference, pixels, half=method.half).model,
            )
    found = method(*pair, pixels, generator(seed, "scan"), progress, clean)
    with frozen(suspect, reference), torch.no_grad():
        stamped = found.trigger.apply(pixels)
        stamped_features, logits = features(stamped)
        suspect_stamped, reference_stamped = logits.argmax(1), _logits(reference, stamped).argmax(1)
    target, reasr = most_frequent_target(suspect_stamped, truth, classes)
    others = truth != target
    evidence = Evidence(
        mse=feature_mse(clean_features, stamped_features),
        reasr=reasr,
        reference_agreement=int((reference_stamped[others] == target).sum()) / int(others.sum()),
        reference_accuracy=None if labels is None else _share(reference_logits, truth),
        mask_share=found.trigger.size / (pixels.shape[2] * pixels.shape[3]),
        num_classes=classes,
        converged=found.converged,
    )
    names = tuple(class_names) if class_names is not None else tuple(str(index) for index in range(classes))
    verdict, reason = decide(evidence, thresholds, names[target])
    if control and verdict == "backdoored":
        swapped = _control(
            method, (suspect, reference), pair, pixels, clean, truth, evidence.mask_share, seed, progress
        )
        evidence = replace(evidence, control_reasr=swapped)
        verdict, reason = decide(evidence, thresholds, names[target])
    shown = torch.cat([others.nonzero().flatten(), (~others).nonzero().flatten()])[:_SHOWN]
    return ScanReport(
        verdict=verdict,
        reason=reason,
        paper_verdict=paper_rule(evidence, thresholds),
        target_class=target,
        reasr=reasr,
        mse=evidence.mse,
        reference_agreement=evidence.reference_agreement,
        control_reasr=evidence.control_reasr,
        suspect_accuracy=_share(clean_logits, truth),
        reference_accuracy=_share(reference_logits, truth),
        thresholds=thresholds,
        trigger=found.trigger.to("cpu"),
        variants=tuple(variant.to("cpu") for variant in found.variants),
        loss_curve=found.loss_curve,
        steps=len(found.loss_curve),
        stop_reason=found.stop_reason,
        seconds=time.perf_counter() - started,
        num_images=len(images),
        class_names=names,
        method=type(method).__name__.lower(),
        settings=asdict(method) | {"half": isinstance(pair[0], InHalfPrecision)},
        seed=seed,
        device=str(device),
        versions=versions(),
        examples=Examples(
            images=to_uint8(pixels[shown]).cpu(),
            labels=truth[shown].cpu(),
            suspect_clean=clean_logits.argmax(1)[shown].cpu(),
            suspect_stamped=suspect_stamped[shown].cpu(),
            reference_stamped=reference_stamped[shown].cpu(),
        ),
        warnings=tuple(_warnings(evidence, len(images))),
    )


def paper_rule(evidence: Evidence, thresholds: Thresholds) -> Verdict:
    """The contrastive paper's rule (2.5): backdoored if MSE and REASR are both above their thresholds."""
    both = evidence.mse > thresholds.mse and evidence.reasr > thresholds.reasr
    return "backdoored" if both else "clean"


def most_frequent_target(predictions: Tensor, labels: Tensor, classes: int) -> tuple[int, float]:
    """The class to which most images *of other classes* are sent, and the share of them: target class and REASR.

    The paper takes the most frequent prediction; counting other classes' images alone keeps a class that merely
    has many images from being taken for the target.

    Args:
        predictions: int64 (N,), for stamped images; labels: int64 (N,), their true classes.
    """
    wrong = torch.bincount(predictions[predictions != labels], minlength=classes).double()
    others = len(labels) - torch.bincount(labels, minlength=classes).double()
    shares = wrong / others.clamp_min(1)
    target = int(shares.argmax())
    return target, float(shares[target])


def decide(evidence: Evidence, thresholds: Thresholds, target_name: str) -> tuple[Verdict, str]:
    """fedmend's own rule: the verdict and the reason for it, in words.

    The paper's two conditions, and beyond them how the reference answers the same stamped images: a patch that
    sends most of them to the target in both models shows what the task is like, not what one model was taught.
    The verdict is inconclusive where the evidence can't carry either: among others where a patch of at most twice the
    size works in the reference alone (the control), so that honest training, too, could have set the models so apart.
    """
    chance = 1 / evidence.num_classes
    poor = min(
        POOR_REFERENCE * chance, (1 + chance) / 2
    )  # twice chance would be all of the images of two classes
    if evidence.reference_accuracy is not None and evidence.reference_accuracy < poor:
        return "inconclusive", (
            f"The reference gets only {evidence.reference_accuracy:.0%} of the images right, hardly better than "
            f"chance ({chance:.0%}). Check that images, labels and reference belong together, or take a better one."
        )
    fooled_too = evidence.reference_agreement >= thresholds.reference_agreement
    if paper_rule(evidence, thresholds) == "clean":
        if evidence.reasr >= thresholds.suspicion and evidence.mse > thresholds.mse and not fooled_too:
            return "inconclusive", (
                f"A patch of about {evidence.mask_share:.1%} of the image sends {evidence.reasr:.0%} of the other "
                f'classes\' images to "{target_name}" in the suspect and {evidence.reference_agreement:.0%} in the '
                "reference: too few for a backdoor, too many to rule one out. Scan again with more images or another "
                "seed."
            )
        if not evidence.converged:
            return "inconclusive", (
                "No working trigger was found, but the search's loss was still falling when its steps were used up. "
                "Allow more steps."
            )
        return "clean", (
            f"The best patch found sends {evidence.reasr:.0%} of the other classes' images to one class "
            f'("{target_name}"); a backdoor would send more than {thresholds.reasr:.0%} and change the features '
            f"more than {thresholds.mse:g} (here {evidence.mse:.3g})."
        )
    if fooled_too:
        return "clean", (
            f'The best patch found sends {evidence.reasr:.0%} of the other classes\' images to "{target_name}", but '
            f"the clean reference says the same of {evidence.reference_agreement:.0%}: a patch that fools both "
            "models is no backdoor of the suspect."
        )
    if (
        evidence.mask_share > thresholds.mask_share + 1e-6
    ):  # a mask scaled to this share may be a rounding above
        return "inconclusive", (
            f'The patch found sends {evidence.reasr:.0%} of the other classes\' images to "{target_name}" in the '
            f"suspect alone, but covers {evidence.mask_share:.0%} of the image: so large a patch can make clean "
            "models differ too. Scan again with more images or another seed."
        )
    if evidence.control_reasr is not None and evidence.control_reasr >= thresholds.suspicion:
        return "inconclusive", (
            f"A patch of about {evidence.mask_share:.1%} of the image sends {evidence.reasr:.0%} of the other classes' "
            f'images to "{target_name}" in the suspect alone, but one of at most twice its size sends '
            f"{evidence.control_reasr:.0%} of them to one class in the reference alone: the models differ both ways, "
            "as they do without a backdoor. Take a later reference, or images and models with which both do better."
        )
    return "backdoored", (
        f"A patch of about {evidence.mask_share:.1%} of the image sends {evidence.reasr:.0%} of the other classes' "
        f'images to "{target_name}" in the suspect, and only {evidence.reference_agreement:.0%} in the reference.'
    )


def _control(
    method: Contrastive,
    pair: tuple[nn.Module, nn.Module],
    searched: tuple[nn.Module, nn.Module],
    images: Tensor,
    clean: tuple[Answers, Answers],
    truth: Tensor,
    mask_share: float,
    seed: int,
    progress: Progress,
) -> float:
    """REASR of the reference alone, by a patch of at most twice the size: a shorter search with the roles swapped.

    It searches the models ``searched``, which answer like the pair in less time.
    """
    allowed = min(1.0, 2 * mask_share)
    swapped = method.control(allowed)

    def told(stage: str, done: int, total: int) -> None:
        progress(f"control: {stage}", done, total)

    found = swapped(*searched[::-1], images, generator(seed, "control"), told, clean[::-1]).trigger
    if found.size > (allowed + 1e-6) * images[0, 0].numel():  # the paper's search has no budget
        return 0.0
    with frozen(*pair), torch.no_grad():
        stamped = found.apply(images)
        by_suspect, by_reference = (_logits(model, stamped) for model in pair)
    target, _ = most_frequent_target(by_reference.argmax(1), truth, by_reference.shape[1])
    others = truth != target
    alone = others & (by_reference.argmax(1) == target) & (by_suspect.argmax(1) != target)
    return int(alone.sum()) / int(others.sum())


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    return FeatureMap(model)(images)[1]


def _share(logits: Tensor, labels: Tensor) -> float:
    return int((logits.argmax(1) == labels).sum()) / len(labels)


def _check(suspect: nn.Module, reference: nn.Module, images: Tensor, labels: Tensor | None) -> None:
    if images.ndim != 4 or len(images) < MIN_IMAGES:
        raise DataError(
            f"a scan needs images of shape (N, C, H, W) with N at least {MIN_IMAGES}; got {tuple(images.shape)}"
        )
    if labels is not None and (labels.shape != (len(images),) or labels.dtype != torch.int64):
        raise DataError(
            f"a scan needs one label an image, int64 (N,); got {len(images)} images and labels "
            f"{tuple(labels.shape)} of {labels.dtype}"
        )
    floats = images.is_floating_point() and bool(((images >= 0) & (images <= 1)).all())
    if images.dtype != torch.uint8 and not floats:
        raise DataError("images must be uint8, or floats in [0, 1] without NaN; divide 8-bit values by 255")
    devices = device_of(suspect), device_of(reference)
    if devices[0] != devices[1]:
        raise ModelError(
            f"suspect and reference must be on one device; they are on {devices[0]} and {devices[1]}"
        )
    precisions = [{value.dtype for value in model.parameters()} for model in (suspect, reference)]
    for wrong in (precisions[0] ^ precisions[1]) | (precisions[0] - {torch.float32, torch.float64}):
        raise ModelError(
            f"suspect and reference must be of one precision, float32 or float64; one of them has {wrong}: "
            "convert it with model.float()"
        )


def _check_answers(
    suspect: Tensor, reference: Tensor, labels: Tensor | None, class_names: Sequence[str] | None
) -> None:
    if suspect.ndim != 2 or suspect.shape != reference.shape:
        raise ModelError(
            f"suspect and reference must answer logits (N, classes) of the same classes; they answer "
            f"{tuple(suspect.shape)} and {tuple(reference.shape)}"
        )
    for name, logits in (("suspect", suspect), ("reference", reference)):
        if not bool(logits.isfinite().all()):
            raise ModelError(
                f"the {name} answers NaN or infinite logits on clean images; is the file damaged?"
            )
    classes = suspect.shape[1]
    if labels is not None and not bool(((labels >= 0) & (labels < classes)).all()):
        raise DataError(
            f"labels must be in [0, {classes}), the models' classes; got {int(labels.min())} to {int(labels.max())}"
        )
    if class_names is not None and len(class_names) != classes:
        raise DataError(f"the models have {classes} classes, but {len(class_names)} class names were given")


def _warnings(evidence: Evidence, num_images: int) -> Iterator[str]:
    if evidence.reference_accuracy is None:
        yield "No labels were given: a poor reference or wrong images could not be noticed."
    elif evidence.reference_accuracy < FAIR_REFERENCE:
        yield (
            f"The reference gets only {evidence.reference_accuracy:.0%} of the images right; a better one makes the "
            "verdict more trustworthy."
        )
    if num_images < 3 * evidence.num_classes:
        yield (
            f"{num_images} images for {evidence.num_classes} classes is less than the paper's three a class; "
            "the measured shares are coarse."
        )
    if not evidence.converged:
        yield "The search's loss was still falling when its steps were used up."
