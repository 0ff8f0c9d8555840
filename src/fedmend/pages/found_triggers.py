"""The page's view of the triggers that clients found in a suspect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedmend.pages import svg, words
from fedmend.repairs.repair_report import FEW_PIXELS, TELLING_RATE, Move, PruningDetails

MAX_ROWS = 10
_FAINT = "a faint pattern over the whole image"

Pixels = Iterable[tuple[int, int]]


@dataclass(frozen=True)
class FoundRow:
    """The trigger of one pair of classes; ``telling`` is the record's own flag, ``place`` describes the pixels."""

    source: str
    target: str
    rate: float
    telling: bool
    clients: int
    place: tuple[str, ...]
    picture: Markup


@dataclass(frozen=True)
class FoundTriggers:
    """The strongest trigger for each pair of classes.

    Attributes:
        finding, tone: what the strongest suggests.
        measured: who measured the fractions, and on which images.
        left_out: number of pairs of classes without a row.
    """

    rows: list[FoundRow]
    finding: str
    tone: str
    measured: str
    left_out: int


def view_of_found_triggers(details: PruningDetails, class_names: Sequence[str]) -> FoundTriggers | None:
    """Gather what there is to show; None if no client found anything."""
    moves = details.moves
    if not moves:
        return None
    shown = moves[:MAX_ROWS]
    side = 1 + max((place for move in shown for pixel in move.best.pixels for place in pixel), default=0)
    return FoundTriggers(
        rows=[_row(move, side, class_names) for move in shown],
        finding=_finding(moves[0], details.num_validation > 0, class_names),
        tone="bad" if moves[0].best.telling else "plain",
        measured=_measured(details.num_validation),
        left_out=len(moves) - len(shown),
    )


def _row(move: Move, side: int, names: Sequence[str]) -> FoundRow:
    best = move.best
    return FoundRow(
        words.class_name(best.source_class, names),
        words.class_name(best.target_class, names),
        best.rate,
        best.telling,
        move.clients,
        _place(best.pixels),
        _picture(best.pixels, side, "pixels telling" if best.telling else "pixels"),
    )


def _finding(move: Move, checked: bool, names: Sequence[str]) -> str:
    best = move.best
    if not best.telling:
        return (
            f"No trigger of at most {FEW_PIXELS} pixels that clients found sends {TELLING_RATE:.0%} of a class to "
            "another; larger ones do so in honest models, too."
        )
    source, target = (words.class_name(index, names) for index in (best.source_class, best.target_class))
    count = _count(best.pixels)
    claim = f"{count} {'sends' if count == '1 pixel' else 'send'} {words.percent(best.rate)} of {source} to {target}"
    if checked:
        return f"{claim}. This suggests a backdoor with the target {target}."
    return f"Clients claim that {claim}. If true, this suggests a backdoor with the target {target}."


def _measured(num_validation: int) -> str:
    if not num_validation:
        return "The fractions are what the clients claim: the server had no images to measure them on."
    images = f"the server’s {num_validation:,} validation images"
    return f"The fractions are measured on {images}; for a class without images, as 0."


def _picture(pixels: Pixels, side: int, kind: str) -> Markup:
    """The pixels in a square of ``side`` rows and columns from the image's top left corner."""
    drawn = [svg.tag("rect", x=column, y=row, width=1, height=1) for row, column in sorted(set(pixels))]
    described = "; ".join(f"row {row}, column {column}" for row, column in sorted(set(pixels)))
    return svg.tag(
        "svg",
        *drawn,
        class_=kind,
        viewBox=f"0 0 {side} {side}",
        role="img",
        aria_label=f"{_count(pixels)}: {described}" if described else _FAINT,
    )


def _place(pixels: Pixels) -> tuple[str, ...]:
    rows, columns = sorted({row for row, _ in pixels}), sorted({column for _, column in pixels})
    if not rows:
        return (_FAINT,)
    return _count(pixels), _span("row", rows), _span("column", columns)


def _count(pixels: Pixels) -> str:
    count = len(set(pixels))
    return "1 pixel" if count == 1 else f"{count:,} pixels"


def _span(what: str, places: list[int]) -> str:
    """Sorted places as text: row 3, or rows 3–7."""
    return f"{what} {places[0]}" if len(places) == 1 else f"{what}s {places[0]}–{places[-1]}"
