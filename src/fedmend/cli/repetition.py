"""Repeats an earlier scan from what its report says it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
from click.core import ParameterSource

from fedmend.detection import ScanReport
from fedmend.detection.provenance import Provenance
from fedmend.errors import ConfigError

_BESIDE = {"again", "out", "overwrite", "as_json", "device"}
"""Options that may be given beside ``--again``."""
EARLIER = "fedmend.earlier"


@dataclass(frozen=True)
class Earlier:
    """An earlier scan.

    Attributes:
        report: its report.
        provenance: the report's.
    """

    report: ScanReport
    provenance: Provenance

    def compared(self, now: ScanReport) -> str:
        """Whether a repetition says the same, in words."""
        before = self.report
        same = "the same verdict" if now.verdict == before.verdict else "another verdict"
        changed = [
            f"{name} {version} -> {now.versions.get(name)}"
            for name, version in before.versions.items()
            if version != now.versions.get(name)
        ]
        versions = f" Other versions: {', '.join(changed)}." if changed else ""
        return f"The scan of {before.date} said {before.verdict.upper()}: {same}.{versions}"


def repeating(context: click.Context, path: Path) -> click.Context:
    """The context of an earlier scan's command, to invoke it again with the suspect and seed of that scan.

    Its ``meta`` holds the :class:`Earlier` under :data:`EARLIER`.

    Args:
        context: of the command that repeats it.
        path: the report.

    Raises:
        ConfigError: the report says too little, or other options are given beside it.
        DataError: it can't be read.
    """
    command, name = context.command, context.info_name
    given = [each for each in command.params if _is_given(context, each)]
    beside = [each.opts[0] for each in given if each.name not in _BESIDE]
    if beside:
        raise ConfigError(
            f"--again takes all but --out and --device from the report; remove {', '.join(beside)}"
        )
    report = ScanReport.load(path)
    provenance = report.provenance
    if provenance is None or provenance.command[:1] != (name,):
        raise ConfigError(f"{path} can't be repeated: it doesn't say which fedmend {name} made it")
    try:
        repeated = command.make_context(name, list(provenance.command[1:]))
    except click.ClickException as error:
        raise ConfigError(f"{path} can't be repeated: {error.format_message()}") from error
    folder = (path if path.is_dir() else path.parent).absolute()
    repeated.params |= {each.name: context.params[each.name] for each in given if each.name != "again"}
    repeated.params |= {
        "suspects": (provenance.suspect.name,),
        "seed": report.seed,
        "seeds": 1,
        "again": None,
        "out": context.params["out"] or folder.with_name(f"{folder.name}-again"),
        "as_json": context.params["as_json"],
        "overwrite": context.params["overwrite"],
    }
    repeated.meta[EARLIER] = Earlier(report, provenance)
    return repeated


def _is_given(context: click.Context, parameter: click.Parameter) -> bool:
    return context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE


def unchanged_since(earlier: Earlier, now: Provenance) -> None:
    """See to it that a repetition is made of what the earlier scan was made of.

    Raises:
        ConfigError: something else is there now.
    """
    changed = ", ".join(earlier.provenance.differences(now))
    if changed:
        raise ConfigError(
            f"since the scan of {earlier.report.date} this has changed: {changed}; scan anew, without --again"
        )
