"""The page's view of a guard: its decisions by round, with accuracy and, in a simulation, the attacks' success."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from fedmend.guard.decisions import Action, Line, counted
from fedmend.pages import svg
from fedmend.pages.charts import clamp, percent_grid, steps
from fedmend.pages.contents import AttackedRound, PageContents
from fedmend.pages.words import percent

_HEIGHT, _ROW, _SIZE = 220, -22, 5

WORDS: dict[Action, str] = {
    "accept": "accepted",
    "repair": "repaired",
    "rollback": "rolled back",
    "hold": "held",
}

Rates = tuple[float | None, ...]


@dataclass(frozen=True)
class GuardRow:
    """A decision; ``asr``, of the released model, and ``candidate_asr`` have one value for each attack."""

    round: int
    action: Action
    decision: str
    verdict: str
    reason: str
    accuracy: float | None
    released: float | None
    candidate_asr: Rates
    asr: Rates


@dataclass(frozen=True)
class GuardView:
    """The guard's section; ``attacks`` is the number of attacks whose success is known."""

    rows: list[GuardRow]
    chart: Markup | None
    marks: list[tuple[str, Markup]]
    summary: str
    attacks: int
    stopped: bool


def guard_view(contents: PageContents) -> GuardView | None:
    """Gather the section's parts; None without decisions."""
    lines = [line for line in contents.decisions if line.round is not None]
    if not lines:
        return None
    known = {each.round: each for each in contents.attacked_rounds}
    attacks = max((len(each.asr) for each in known.values()), default=0)
    rows = list(_rows(lines, known, attacks))
    chart = _chart(rows, attacks) if rows[0].round < rows[-1].round else None
    seen = [action for action in WORDS if any(row.action == action for row in rows)]
    marks = [(WORDS[action], _legend(action)) for action in seen]
    return GuardView(rows, chart, marks, counted(lines), attacks, lines[-1].stop)


def _rows(lines: Sequence[Line], known: Mapping[int, AttackedRound], attacks: int) -> Iterator[GuardRow]:
    nothing: Rates = (None,) * attacks
    released = nothing
    for line in lines:
        assert line.round is not None
        hidden = known.get(line.round, AttackedRound(line.round))
        if line.action != "hold":  # else the model that was released before stays
            released = hidden.asr or nothing
        accuracies = line.evidence.get("accuracy")
        accuracies = accuracies if isinstance(accuracies, dict) else {}
        yield GuardRow(
            line.round,
            line.action,
            WORDS[line.action],
            line.verdict,
            line.reason,
            _fraction(accuracies.get("candidate")),
            _fraction(accuracies.get("released")),
            hidden.candidate_asr or nothing,
            released,
        )


def _fraction(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _chart(rows: Sequence[GuardRow], attacks: int) -> Markup:
    first, last = rows[0].round, rows[-1].round

    def across(row: GuardRow) -> float:
        return (row.round - first) / (last - first)

    children = percent_grid(_HEIGHT) + steps(first, last, _HEIGHT)
    runs = [
        *_runs("curve candidate", rows, across, lambda row: row.accuracy),
        *_runs("curve accuracy", rows, across, lambda row: row.released),
    ]
    for attack in range(attacks):
        runs += _runs("curve asr candidate", rows, across, lambda row, of=attack: row.candidate_asr[of])  # type: ignore[misc]
        runs += _runs("curve asr dash-0", rows, across, lambda row, of=attack: row.asr[of])  # type: ignore[misc]
    children += [_mark(row.action, svg.at(across(row)), _ROW) for row in rows]
    children.append(svg.curves(runs, _HEIGHT))
    title = "The guard's decisions, and accuracy" + (" and attack success rate" if attacks else "")
    return svg.picture(
        "guard", f"{title} by round", _description(rows, attacks), _HEIGHT, "lines guard", children
    )


def _runs(
    kind: str,
    rows: Sequence[GuardRow],
    across: Callable[[GuardRow], float],
    value: Callable[[GuardRow], float | None],
) -> list[tuple[str, list[svg.Point]]]:
    """A line for each stretch of rounds in which a value is known."""
    return [
        (kind, [(across(row), clamp(value(row) or 0.0)) for row in group])
        for known, group in groupby(rows, key=lambda row: value(row) is not None)
        if known
    ]


def _mark(action: Action, across: str, down: float) -> Markup:
    """A shape of its own for each action, so that colour isn't needed: a dot, a square, a cross, a ring."""
    kind = f"decided {action}"
    inside: dict[Action, Markup] = {
        "accept": svg.tag("circle", r=_SIZE - 1),
        "repair": svg.tag("rect", x=-_SIZE, y=-_SIZE, width=2 * _SIZE, height=2 * _SIZE),
        "rollback": svg.tag(
            "path", d=f"M{-_SIZE},{-_SIZE}L{_SIZE},{_SIZE}M{-_SIZE},{_SIZE}L{_SIZE},{-_SIZE}"
        ),
        "hold": svg.tag("circle", r=_SIZE - 1),
    }
    return svg.tag(
        "svg", inside[action], x=across, y=down, class_=kind, overflow="visible", width=1, height=1
    )


def _legend(action: Action) -> Markup:
    return svg.tag("svg", _mark(action, "8", 8), width=16, height=16, aria_hidden="true")


def _description(rows: Sequence[GuardRow], attacks: int) -> str:
    stretches = [
        (action, [row.round for row in group]) for action, group in groupby(rows, key=lambda row: row.action)
    ]
    said = [
        f"{WORDS[action]} in round {rounds[0]}"
        if len(rounds) == 1
        else f"{WORDS[action]} in rounds {rounds[0]} to {rounds[-1]}"
        for action, rounds in stretches
    ]
    for attack in range(attacks):
        highest = [
            max((rates[attack] or 0.0 for rates in each), default=0.0)
            for each in ([row.candidate_asr for row in rows], [row.asr for row in rows])
        ]
        name = "Attack success rate" if attacks == 1 else f"Success rate of attack {attack + 1}"
        said.append(
            f"{name}: at most {percent(highest[0])} in candidates, {percent(highest[1])} in released models"
        )
    return ". ".join(each[0].upper() + each[1:] for each in said) + "."
