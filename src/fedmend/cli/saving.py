"""What a command writes: all of it together, and the file of a repaired model only if there is one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from fedmend.checkpoints import save_state, save_trigger
from fedmend.cli.console import show
from fedmend.detection import ScanReport, most_suspicious, recovered
from fedmend.detection.tensors_beside import FILE as TENSORS
from fedmend.detection.tensors_beside import without_tensors
from fedmend.errors import ConfigError, OutputError
from fedmend.files import Content, undo_unfinished, write_together
from fedmend.pages import read_folder, render

Results = Mapping[str, Content | None]
"""Files by their names; None: an earlier one is to be removed."""

SCAN_AND_REPAIR = ("scan.json", "repair.json")

_SUMMARY = "summary.json"
_TRIGGER = re.compile(r"trigger(-\d+)?\.safetensors")


def check_folder(folder: Path, replaced: Sequence[str], inputs: Sequence[Path | None] = ()) -> None:
    """Before the work, see to it that its results can be written and shown.

    Args:
        folder: where they are to be; need not exist. What a killed command left half done there is taken back.
        replaced: the JSON files that the results replace or remove; the page shows the others that are there.
        inputs: the model files that the command reads, which no result may replace.

    Raises:
        ConfigError: an input has the name and place of a result.
        OutputError: the folder can't be written. DataError: another file that the page shows is damaged.
    """
    for each in inputs:
        if each is not None and each.parent.resolve() == folder.resolve() and _TRIGGER.fullmatch(each.name):
            raise ConfigError(
                f"{each} would be replaced by a recovered trigger; rename it, or choose another folder for the results"
            )
    nearest = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        reason = "Permission denied" if nearest.is_dir() else f"{nearest} is not a folder"
        raise OutputError(f"can't write {folder}: {reason}; choose a writable folder with free space")
    undo_unfinished(folder)
    read_folder(folder, dict.fromkeys(replaced))


def save_results(folder: Path, results: Results, *, overwrite: bool = False) -> Path:
    """Write a command's results and the page that shows them, all or none (see :func:`write_together`).

    Args:
        folder: made if needed.
        results: what to write there, and what to remove.
        overwrite: whether an earlier scan's or repair's results, page included, are given up. Else they are kept in a
            folder of their own in ``folder``, which stderr is told.

    Returns:
        The page's path.

    Raises:
        OutputError: a file can't be written. DataError: another file in the folder, which the page shows, is damaged.
    """
    texts = {
        name: content for name, content in results.items() if content is None or isinstance(content, str)
    }
    page = folder / "report.html"
    written = {name: content for name, content in results.items() if content is not None}
    written[page.name] = render(read_folder(folder, texts))
    gone = [name for name, content in results.items() if content is None]
    if "scan.json" in written:
        text, tensors = without_tensors(str(written["scan.json"]))
        written["scan.json"] = text
        if tensors is None:
            gone.append(TENSORS)
        else:
            written[TENSORS] = partial(_write_bytes, tensors)
    _write_all(folder, written, gone, () if overwrite else SCAN_AND_REPAIR)
    return page


def save_summary(folder: Path, text: str, *, overwrite: bool) -> Path:
    """Write the summary of several scans; an earlier one is kept as :func:`save_results` does.

    Returns:
        Its path.

    Raises:
        OutputError: it can't be written.
    """
    _write_all(folder, {_SUMMARY: text}, (), () if overwrite else (_SUMMARY,))
    return folder / _SUMMARY


def _write_all(
    folder: Path, files: Mapping[str, Content], gone: Sequence[str], reports: Sequence[str]
) -> None:
    kept = write_together(folder, files, gone, reports)
    if kept is not None:
        show(f"The earlier results of {folder} are kept in {kept}", err=True)


def scan_files(report: ScanReport, folder: Path) -> Results:
    """A scan's files; an earlier scan's further ones in ``folder`` are to be removed.

    ``trigger.safetensors`` holds the first trigger of the most suspicious finding that recovered one,
    ``trigger-2.safetensors`` its second, and so on.
    """
    with_trigger = [finding for finding in report.findings if recovered(finding) is not None]
    targets = most_suspicious(with_trigger).targets if with_trigger else ()
    triggers = [target.trigger for target in targets if target.trigger is not None]
    earlier = [file.name for file in folder.glob("trigger*.safetensors") if _TRIGGER.fullmatch(file.name)]
    results: dict[str, Content | None] = dict.fromkeys(earlier)
    for number, trigger in enumerate(triggers, start=1):
        name = "trigger.safetensors" if number == 1 else f"trigger-{number}.safetensors"
        results[name] = partial(save_trigger, trigger)
    results["scan.json"] = report.to_json() + "\n"
    return results


def _write_bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def model_file(model: nn.Module | None, name: str) -> Results:
    """The file of a repaired model, if there is one; else an earlier one is to be removed."""
    return {name: None if model is None else partial(save_state, model.state_dict())}


def make_way(out: Path, overwrite: bool, inputs: Sequence[Path]) -> None:
    """See to it that there is no file at ``out``, so that one found there afterwards is this repair's.

    Args:
        out: where the repaired model is to be.
        overwrite: remove a file that is there.
        inputs: never removed.

    Raises:
        ConfigError: ``out`` does not end in .safetensors, is named like a trigger's file, is there and ``overwrite``
            isn't given, or is an input.
        OutputError: it can't be removed.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: repaired models are written as .safetensors; give it that ending")
    if _TRIGGER.fullmatch(out.name):
        raise ConfigError(f"--out {out}: a recovered trigger would be written there; choose another name")
    if not os.path.lexists(out):
        return
    if out.exists() and any(each.exists() and each.samefile(out) for each in inputs):
        raise ConfigError(f"--out {out} is a file that this repair reads; choose another")
    if not overwrite:
        raise ConfigError(f"--out {out} is there already; choose another, or let --overwrite remove it")
    try:
        out.unlink()
    except OSError as error:
        raise OutputError(f"can't write {out}: {error.strerror}") from error
