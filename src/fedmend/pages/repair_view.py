"""The page's view of any repair: before and after, and how it was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from fedmend.pages import words
from fedmend.pages.contents import AttackEvaluation, PageContents
from fedmend.repairs.repair_report import PruningDetails, RepairReport


@dataclass(frozen=True)
class Row:
    """A line of the before-and-after table."""

    name: str
    note: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class RepairView:
    """The repair's section; ``facts`` are names and texts."""

    report: RepairReport
    wording: words.Wording
    verdict_after: words.Wording | None
    rows: list[Row]
    facts: list[tuple[str, str]]


def view_of_repair(contents: PageContents) -> RepairView | None:
    """Gather the section's parts; None without a repair."""
    repair = contents.repair
    if repair is None:
        return None
    names = contents.scan.class_names if contents.scan else ()
    return RepairView(
        report=repair,
        wording=words.OUTCOMES[repair.outcome],
        verdict_after=words.VERDICTS[repair.verdict_after] if repair.verdict_after else None,
        rows=list(_rows(repair, names)),
        facts=list(_facts(repair)),
    )


def attack_rows(evaluation: AttackEvaluation | None) -> list[Row]:
    """The attackers' own triggers' success before and after a repair, unknown to the defender."""
    if evaluation is None:
        return []
    images = f"known only in a simulation; on {evaluation.num_images:,} test images"
    after = evaluation.asr_after or ()
    several = len(evaluation.asr_before) > 1
    rows = [
        Row(
            f"Attack success rate (ASR){f', attack {index + 1}' if several else ''}",
            f"the attacker’s own trigger; {images}",
            before,
            after[index] if index < len(after) else None,
        )
        for index, before in enumerate(evaluation.asr_before)
    ]
    accuracy = Row("Test accuracy", images, evaluation.accuracy_before, evaluation.accuracy_after)
    return [*rows, accuracy]


def repair_settings(repair: RepairReport) -> list[tuple[str, str]]:
    """The repair's settings as dotted names and texts."""
    about: dict[str, object] = {"method": repair.method}
    if isinstance(repair.details, PruningDetails):
        about |= {"vote": repair.details.vote, "layer": repair.details.layer}
    about |= {"max_accuracy_drop": repair.max_accuracy_drop}
    return list(words.flatten({**about, **repair.settings}))


def _rows(repair: RepairReport, names: Sequence[str]) -> Iterator[Row]:
    images = _judged_on(repair)
    yield Row("Clean accuracy", images, repair.accuracy_before, repair.accuracy_after)
    for check in repair.target_checks:
        sources, target = words.class_list(check.sources, names), words.class_name(check.target, names)
        yield Row(
            "Recovered trigger’s success",
            f"{sources} → {target}, {images}",
            check.success_before,
            check.success_after,
        )


def _judged_on(repair: RepairReport) -> str:
    if not repair.num_judged:
        return "as the clients reported it"
    if repair.num_heldout == repair.num_judged:
        return f"on {repair.num_judged:,} held-out images"
    return f"on {repair.num_judged:,} images, {repair.num_heldout:,} of them held out"


def _facts(repair: RepairReport) -> Iterator[tuple[str, str]]:
    yield "Method", repair.method
    yield "Allowed accuracy drop", words.points(repair.max_accuracy_drop)
    if repair.accuracy_error:
        yield "Standard error of the drop", words.points(repair.accuracy_error)
    if repair.details is not None and not isinstance(repair.details, PruningDetails):
        for name, text in words.flatten(asdict(repair.details)):
            yield name.replace("_", " ").capitalize(), text
    yield "Time", words.duration(repair.seconds)
