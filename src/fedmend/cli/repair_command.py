"""``fedmend repair``: remove the backdoor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from fedmend.cli import options
from fedmend.cli.attack_measuring import in_words, measure_attack
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars, show
from fedmend.cli.data_options import DataChoice
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.pruning_command import prune_run
from fedmend.cli.saving import (
    SCAN_AND_REPAIR,
    check_folder,
    make_way,
    model_file,
    save_results,
    scan_files,
)
from fedmend.cli.scan_text import summary
from fedmend.detection import Effort
from fedmend.detection import scan as run_scan
from fedmend.errors import ConfigError
from fedmend.pages import evaluation_file
from fedmend.repairs import REPAIRS, FederatedPruning, HoldOutGate, RepairReport, Unlearning
from fedmend.repairs import repair as run_repair
from fedmend.repairs.repairing import SEARCHES, images_learned_from

HELD_OUT_IMAGES = 500
EXIT_CODES = {"repaired": 0, "failed": 1, "undecided": 3, "not needed": 4, "unverified": 5}


def repair(
    suspect: Path,
    reference: Path | None,
    model: ModelChoice,
    data: DataChoice,
    expected_accuracy: float | None,
    device: str,
    seed: int,
    as_json: bool,
    repair_method: str,
    method: str,
    effort: Effort | None,
    memory: int | None,
    repair_images: int,
    validation_images: int,
    held_out_images: int | None,
    reference_round: int | None,
    vote: Literal["ranking", "majority"] | None,
    rounds: int | None,
    workers: int | None,
    delta: float | None,
    max_accuracy_drop: float | None,
    out: Path,
    overwrite: bool,
) -> int:
    """See :func:`fedmend.cli.repair_options.repair`."""
    repairer = REPAIRS[repair_method]
    if isinstance(repairer, FederatedPruning):
        _refuse(
            {
                "--reference": reference,
                "--model": model.architecture,
                "--model-args": model.arguments or None,
                "--mean": model.normalization,
                "--key": model.key,
                "--strip-prefix": model.strip_prefix,
                "--data": data.source,
                "--images": data.count,
                "--resize": data.resize,
                "--classes": data.classes,
                "--effort": effort,
                "--memory": memory,
                "--expected-accuracy": expected_accuracy,
            },
            f"--method {repair_method}",
        )
        if held_out_images is None:
            held_out_images = HELD_OUT_IMAGES if validation_images else 0
        if validation_images and not held_out_images:
            raise ConfigError(
                "--held-out-images 0: a model that --validation-images chose is judged by other images; give some"
            )
        if reference_round is not None and not held_out_images:
            raise ConfigError("--reference-round is for a new scan, which needs --held-out-images above 0")
        make_way(out, overwrite, [suspect, *suspect.glob("checkpoints/*")])
        check_folder(out.parent, ("repair.json", "attacker/prune_evaluation.json"))
        repairer = replace(
            repairer,
            vote=vote or repairer.vote,
            fine_tuning_rounds=repairer.fine_tuning_rounds if rounds is None else rounds,
            pruning=repairer.pruning if delta is None else replace(repairer.pruning, delta=delta),
        )
        report, text = prune_run(
            suspect,
            repairer,
            (validation_images, held_out_images),
            reference_round,
            max_accuracy_drop,
            workers,
            device,
            seed,
            out,
            overwrite,
        )
        show(report.to_json() if as_json else text)
        return EXIT_CODES[report.outcome]
    pruning_only: dict[str, object] = {
        "--vote": vote,
        "--rounds": rounds,
        "--delta": delta,
        "--workers": workers,
    }
    pruning_only |= {"--reference-round": reference_round, "--held-out-images": held_out_images}
    _refuse(pruning_only, f"--method {repair_method}")
    if model.architecture is None or data.source is None:
        missing = {"--model": model.architecture, "--data": data.source}
        names = ", ".join(name for name, value in missing.items() if value is None)
        raise ConfigError(f"--method {repair_method} needs {names} as well")
    if isinstance(repairer, Unlearning):
        repairer = replace(repairer, memory=memory)
    make_way(out, overwrite, [suspect] if reference is None else [suspect, reference])
    check_folder(out.parent, (*SCAN_AND_REPAIR, "attacker/evaluation.json"), [suspect, reference])
    detector, gate = options.chosen_detector(method, effort, memory), HoldOutGate()
    if method != options.DEFAULT_DETECTOR or effort is not None or memory is not None:
        gate = replace(gate, detector=detector)
    if max_accuracy_drop is not None:
        gate = replace(gate, max_accuracy_drop=max_accuracy_drop)
    loaded = load_case(suspect, reference, model, data, device, seed, expected_accuracy)
    own = loaded.repair_images(repair_images, seed)
    case = loaded.to_scan()
    with progress_bars(stages=1 + SEARCHES + 2 * gate.max_passes) as progress:
        found = run_scan(case, detector, seed=seed, progress=progress)
        to_repair = replace(case, images=own.images, labels=own.labels)
        repaired, report = run_repair(
            to_repair,
            found,
            repairer,
            gate,
            seed=seed,
            progress=progress,
        )
    learned = images_learned_from(to_repair, gate, report)
    measured = measure_attack(suspect, case.suspect, repaired, learned)
    repair_file = {"repair.json": report.to_json() + "\n"}
    results = {
        **scan_files(loaded.recorded(found), out.parent),
        **model_file(repaired, out.name),
        **repair_file,
        **evaluation_file(measured),
    }
    page = save_results(out.parent, results, overwrite=overwrite)
    model_line = "" if repaired is None else f"Model: {out}\n"
    text = f"{summary(found)}\n{outcome(report)}\n{in_words(measured)}{model_line}Report: {page}"
    show(report.to_json() if as_json else text)
    return EXIT_CODES[report.outcome]


def outcome(report: RepairReport) -> str:
    """A repair's outcome and reason for a person."""
    return f"{report.outcome.upper()}. {report.reason}"


def _refuse(options_given: Mapping[str, object], by: str) -> None:
    names = ", ".join(name for name, value in options_given.items() if value is not None)
    if names:
        raise ConfigError(f"{by} does not accept {names}; remove it")
