"""The page's view of a federation: accuracy by round, and the attack success rate, which only the attacker knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from fedmend.pages import svg
from fedmend.pages.charts import clamp, percent_grid, steps
from fedmend.pages.contents import AttackedRound, PageContents
from fedmend.pages.words import percent

_HEIGHT = 280


@dataclass(frozen=True)
class RoundRow:
    """A round's figures; ``asr`` has one value for each attack."""

    round: int
    accuracy: float
    asr: tuple[float | None, ...]
    attackers: tuple[int, ...]


@dataclass(frozen=True)
class RoundsView:
    """The federation's section; ``attacks`` is the number of attacks whose success is known."""

    rows: list[RoundRow]
    chart: Markup
    attacks: int
    attacked: bool


def rounds_view(contents: PageContents) -> RoundsView | None:
    """Gather the section's parts; None if there are fewer than two rounds."""
    if len(contents.rounds) < 2:
        return None
    known: Mapping[int, AttackedRound] = {each.round: each for each in contents.attacked_rounds}
    attacks = max((len(each.asr) for each in contents.attacked_rounds), default=0)
    rows = []
    for each in contents.rounds:
        hidden = known.get(each.round, AttackedRound(each.round))
        asr = (*hidden.asr, *[None] * (attacks - len(hidden.asr)))
        rows.append(RoundRow(each.round, each.accuracy, asr, hidden.attackers))
    attacked = any(row.attackers for row in rows)
    return RoundsView(rows, _chart(rows, attacks, _marks(contents)), attacks, attacked)


def _marks(contents: PageContents) -> list[tuple[int, str, str]]:
    """The rounds to mark, each with its label and CSS class, in order."""
    first, last = contents.rounds[0].round, contents.rounds[-1].round
    marks = [
        ("first attack", contents.first_attack_round, "attack"),
        ("reference", contents.reference_round, "reference"),
        ("suspect", contents.suspect_round, "suspect"),
    ]
    return sorted((at, label, kind) for label, at, kind in marks if at is not None and first <= at <= last)


def _chart(rows: Sequence[RoundRow], attacks: int, marks: Sequence[tuple[int, str, str]]) -> Markup:
    first, last = rows[0].round, rows[-1].round

    def across(number: int) -> float:
        return (number - first) / (last - first)

    children = percent_grid(_HEIGHT) + steps(first, last, _HEIGHT)
    runs = [("curve accuracy", [(across(row.round), clamp(row.accuracy)) for row in rows])]
    for attack in range(attacks):
        for known, group in groupby(rows, key=lambda row: row.asr[attack] is not None):
            if known:
                points = [(across(row.round), clamp(row.asr[attack] or 0.0)) for row in group]
                runs.append((f"curve asr dash-{attack % 3}", points))
    labels = []
    for line, (at, label, kind) in enumerate(reversed(marks)):
        place, down = across(at), -10 - 18 * line
        children.append(svg.vertical(place, down - 10, _HEIGHT, f"mark {kind}"))
        side, described = (
            ("start", f"\u2002{label}, round {at}") if place < 0.55 else ("end", f"{label}, round {at}\u2002")
        )
        labels.append(svg.text(described, place, down, kind=f"mark-label {kind}", anchored=side))
    children += [
        svg.tag("circle", cx=svg.at(across(row.round)), cy=_HEIGHT, r=3.5, class_="attacker")
        for row in rows
        if row.attackers
    ]
    children += [svg.curves(runs, _HEIGHT), *labels]
    title = "Accuracy and attack success rate by round" if attacks else "Accuracy by round"
    return svg.picture("rounds", title, _description(rows, attacks), _HEIGHT, "lines rounds", children)


def _description(rows: Sequence[RoundRow], attacks: int) -> str:
    first, last = rows[0], rows[-1]
    described = [f"Clean accuracy: {percent(first.accuracy)} in round {first.round}"]
    described.append(f"{percent(last.accuracy)} in round {last.round}")
    for attack in range(attacks):
        known = [(row.round, row.asr[attack]) for row in rows if row.asr[attack] is not None]
        if known:
            name = "attack success rate" if attacks == 1 else f"success rate of attack {attack + 1}"
            number, success = known[-1]
            described.append(f"{name}: {percent(success)} in round {number}")
            described.append(f"at most {percent(max(each or 0.0 for _, each in known))}")
    return ", ".join(described) + ". Each round's figures are in the table below."
