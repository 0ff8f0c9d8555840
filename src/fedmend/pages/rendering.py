"""Renders results as HTML."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedmend.files import write_text
from fedmend.pages import charts, pictures, words
from fedmend.pages.attack_view import attack_views
from fedmend.pages.contents import PageContents
from fedmend.pages.decisions_view import guard_view
from fedmend.pages.finding_view import finding_views
from fedmend.pages.pruning_view import view_of_pruning
from fedmend.pages.repair_view import attack_rows, repair_settings, view_of_repair
from fedmend.pages.rounds_chart import rounds_view
from fedmend.pages.verdict_view import view_of_verdict

Settings = list[tuple[str, list[tuple[str, str]]]]


def render(contents: PageContents) -> str:
    """Render the whole page as one HTML text that needs no other file and no network.

    Raises:
        DataError: the scan's example images have another shape than its trigger.
    """
    return environment().get_template("page.html").render(_view(contents))


def write_page(path: Path, contents: PageContents) -> None:
    """Write :func:`render`'s page to ``path``, atomically.

    Raises:
        DataError: see :func:`render`.
        OutputError: the file can't be written.
    """
    write_text(path, render(contents))


def environment() -> Environment:
    """What every page is rendered with: strict about names, and everything escaped."""
    environment = Environment(
        loader=PackageLoader("fedmend.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=words.percent,
        points=words.points,
        duration=words.duration,
        number=words.number,
        clamp=charts.clamp,
    )
    return environment


def _view(contents: PageContents) -> dict[str, Any]:
    names = contents.scan.class_names if contents.scan else ()
    findings = finding_views(contents.scan) if contents.scan else []
    return {
        "contents": contents,
        "scan": contents.scan,
        "first": view_of_verdict(contents),
        "findings": findings,
        "rounds": rounds_view(contents),
        "guard": guard_view(contents),
        "attacks": attack_views(contents.attacks, names, contents.scan.findings if contents.scan else ()),
        "repair": view_of_repair(contents),
        "attack_rows": attack_rows(contents.evaluation),
        "pruning": view_of_pruning(contents, names),
        "heat_stops": ", ".join(pictures.HEAT_STOPS),
        "first_pictured": next((each.key for each in findings if each.pictured), None),
        "warnings": _warnings(contents),
        "settings": _settings(contents),
        "versions": _versions(contents),
    }


def _warnings(contents: PageContents) -> list[str]:
    """All warnings, without duplicates."""
    found: list[str] = []
    if contents.scan:
        found += contents.scan.warnings
        for finding in contents.scan.findings:
            found += finding.warnings
    if contents.repair:
        found += contents.repair.warnings
    return list(dict.fromkeys(found))


def _settings(contents: PageContents) -> Settings:
    groups: Settings = []
    if scan := contents.scan:
        groups.append(("Scan", list(words.flatten({"seed": scan.seed, "device": scan.device}))))
        groups += [(each.detector, list(words.flatten(each.settings))) for each in scan.findings]
        if scan.provenance is not None:
            made_of = asdict(scan.provenance) | {
                "date": scan.date,
                "command": shlex.join(scan.provenance.command),
            }
            groups.append(("Provenance", list(words.flatten(made_of))))
    if contents.repair:
        groups.append(("Repair", repair_settings(contents.repair)))
    if contents.decisions:
        groups.append(("Guard", list(words.flatten(contents.decisions[-1].policy))))
    if contents.settings:
        groups.append(("Simulation", list(words.flatten(contents.settings))))
    return [group for group in groups if group[1]]


def _versions(contents: PageContents) -> Mapping[str, str]:
    if contents.scan:
        return contents.scan.versions
    if contents.decisions:
        return contents.decisions[-1].versions
    return contents.pruning.versions if contents.pruning else {}
