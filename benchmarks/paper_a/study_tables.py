"""Figures 4 to 8 as tables, and what the contrastive paper's reviewers asked, of one scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.paper_a import paper
from benchmarks.paper_a.lines import (
    KINDS,
    MEAN,
    NONE,
    OURS,
    PAPER,
    Line,
    above,
    asr_after,
    calibrated,
    found,
    of,
    rate,
    spread,
)
from benchmarks.results import markdown

BOTH = (PAPER, OURS)


def tables(lines: list[Line]) -> list[str]:
    """Those that have a line."""
    made = (measures, sizes, clients, references, partitions, thresholds)
    return [text for make in made if (text := make(lines))]


def measures(lines: list[Line]) -> str:
    """Figure 4: MSE and REASR of the paper's method, and fedmend's lead in units of its limit."""
    rows = [
        (
            "Figure 4",
            "MSE (limit 10)",
            "REASR, % (limit 80)",
            "n",
            "MSE, L1 mean",
            "REASR",
            "n",
            "fedmend's lead / limit",
            "n",
        )
    ]
    for kind in KINDS:
        theirs, mean, ours = (of(lines, method, study=kind) for method in (PAPER, MEAN, OURS))
        rows.append(
            (
                kind if kind == "clean" else kind.upper(),
                spread([line["measures"]["mse"] for line in theirs], 1),
                spread([100 * line["measures"]["reasr"] for line in theirs], 1),
                str(len(theirs)),
                spread([line["measures"]["mse"] for line in mean], 1),
                spread([100 * line["measures"]["reasr"] for line in mean], 1),
                str(len(mean)),
                spread([line["suspicious"] for line in ours]),
                str(len(ours)),
            )
        )
    return markdown(rows, right=" rrrrrrrr")


def sizes(lines: list[Line]) -> str:
    """Figures 5 and 6."""

    def size(line: Line) -> str:
        return f"{line['name'].split('-')[1]}x{line['name'].split('-')[1]}"

    said = {f"{side}x{side}": text for side, text in paper.SIZES.items()}
    return _repairs(lines, "size", "Figure 6: white square", size, said)


def clients(lines: list[Line]) -> str:
    """Figure 7."""
    return _repairs(
        [line for line in lines if line["kind"] != "clean"],
        "clients",
        "Figure 7: clients",
        lambda line: line["name"].split("-")[0],
        dict.fromkeys(("50", "100"), paper.CLIENTS),
    )


def _repairs(
    lines: list[Line], study: str, title: str, group: Callable[[Line], str], said: dict[str, str]
) -> str:
    """Verdicts, and the ASR before and after each system's repair; a row a group."""
    some = {method: of(lines, method, study=study) for method in BOTH}
    groups = sorted({group(line) for each in some.values() for line in each}, key=_number)
    rows = [(title, "ASR before", "after: paper", "after: as written", "found", "after: fedmend", "found")]
    for name in groups:
        theirs, ours = ([line for line in some[method] if group(line) == name] for method in BOTH)
        before = {line["name"]: 100 * line["asr"] for line in (*theirs, *ours)}
        rows.append(
            (
                *(name, spread(list(before.values())), said[name]),
                *(spread([asr_after(line) for line in theirs]), f"{found(theirs)}/{len(theirs)}"),
                *(spread([asr_after(line) for line in ours]), f"{found(ours)}/{len(ours)}"),
            )
        )
    return markdown(rows) if groups else ""


def _number(name: str) -> int:
    return int(name.split("x")[0])


def references(lines: list[Line]) -> str:
    """Figure 8: verdicts with weak references, on attacked and clean models."""
    weak = [line for line in lines if line["level"] is not None]
    rows = [
        (
            "Figure 8: reference's accuracy, %",
            "attacked: as written",
            "fedmend",
            "clean: as written",
            "fedmend",
        )
    ]
    for level in sorted({line["level"] for line in weak}):
        some = [line for line in weak if line["level"] == level]
        accuracy = spread(sorted({100 * line["reference_accuracy"] for line in some})[:1], 1)
        rows.append(
            (
                accuracy,
                *(
                    _verdicts(
                        line
                        for line in some
                        if line["method"] == method and clean is (line["kind"] == "clean")
                    )
                    for clean in (False, True)
                    for method in BOTH
                ),
            )
        )
    return markdown(rows, right="r") if weak else ""


def _verdicts(lines: Iterable[Line]) -> str:
    """How often each verdict came."""
    said = [line["verdict"] for line in lines]
    counts = [
        f"{said.count(each)} {each}" for each in ("backdoored", "inconclusive", "clean") if each in said
    ]
    return ", ".join(counts) or NONE


def partitions(lines: list[Line]) -> str:
    """Non-IID clients, and attacks from the first round: verdicts, and the ASR after the repairs."""
    rows = [("The reviewers' questions", "ASR before", "as written", "after", "fedmend", "after")]
    asked = [line for line in lines if line["study"] in ("partition", "from-start")]
    for name in sorted({line["name"].rsplit("-", 1)[0] for line in asked}):
        some = [line for line in asked if line["name"].rsplit("-", 1)[0] == name]
        attacked = some[0]["kind"] != "clean"
        row = [
            name,
            spread([100 * line["asr"] for line in some if line["method"] == OURS]) if attacked else NONE,
        ]
        for method in BOTH:
            own = of(some, method)
            row += [_verdicts(own), spread([asr_after(line) for line in own]) if attacked else NONE]
        rows.append(tuple(row))
    return markdown(rows) if asked else ""


def thresholds(lines: list[Line]) -> str:
    """The paper's thresholds beside ones above all of half of the clean models; judged on the other half, in turns."""
    clean = sorted(of(lines, PAPER, study="clean"), key=lambda line: str(line["name"]))
    if len(clean) < 4:
        return ""
    attacked = [line for line in of(lines, PAPER) if line["study"] in ("sba", "dba")]
    rows = [("Thresholds of the paper's method", "attacked above both", "clean above both")]
    rows.append(
        (
            f"{paper.MSE:g} and {100 * paper.REASR:g} %",
            *(rate(above(some, paper.MSE, paper.REASR), len(some)) for some in (attacked, clean)),
        )
    )
    halves = clean[::2], clean[1::2]
    for chosen, judged in (halves, halves[::-1]):
        mse, reasr = calibrated(chosen)
        rows.append(
            (
                f"calibrated on {len(chosen)} clean: {mse:.3g} and {100 * reasr:.0f} %",
                rate(above(attacked, mse, reasr), len(attacked)),
                rate(above(judged, mse, reasr), len(judged)),
            )
        )
    return markdown(rows)
