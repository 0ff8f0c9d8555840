"""The generated section of this benchmark's README: a row for each federation, network and vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.guard import rounds
from benchmarks.guard.federations import ADAPTIVE, ATTACKS, PARTITIONS
from benchmarks.guard.rounds import RELEASED, Run
from benchmarks.guard.targets import RESULTS, read, targets
from benchmarks.results import markdown, proportion, table

LETTERS = {"accept": "A", "repair": "P", "rollback": "R", "hold": "H"}


def tables(results: Path = RESULTS) -> str:
    """The targets, then each measurement."""
    runs, parts = rounds.load(results / RELEASED.name), ["### Targets", table(targets(results))]
    if any(run["attack"] for run in runs):
        parts += ["### Under attack", _under_attack(runs, ATTACKS)]
    if repairing := rounds.attacked(runs, guarded=True, repairs=True):
        parts += ["### Under attack, with repairs", _with_repairs(repairing, runs)]
    if any(run["attack"] in ADAPTIVE for run in runs):
        parts += ["### Adaptive attackers", _under_attack(runs, ADAPTIVE)]
    if honest := rounds.honest(runs, guarded=True):
        parts += ["### Honest federations", _honest(honest)]
    if runs:
        parts.append(_provenance(runs))
    if overhead := read("overhead", results):
        parts += ["### Overhead", _overhead(overhead), _votes(overhead)]
    return "\n\n".join(parts)


def _under_attack(runs: Sequence[Run], attacks: Sequence[str]) -> str:
    head = (
        "Federation",
        "attack",
        "accuracy: honest",
        "without a guard",
        "guarded",
        "largest ASR: pre-trained",
        "without a guard",
        "released",
        "rounds 1, 2, …",
    )
    by_cell = {
        (run["dataset"], run["seed"], run["attack"], run["guarded"]): run
        for run in runs
        if not run.get("repairs", False)
    }
    federations = sorted({(run["dataset"], run["seed"]) for run in runs}, reverse=True)
    rows = []
    for dataset, seed in federations:
        for attack in attacks:
            alone, guarded = (by_cell.get((dataset, seed, attack, each)) for each in (False, True))
            if alone is None and guarded is None:
                continue
            honest = by_cell.get((dataset, seed, None, False))
            start = alone or guarded
            assert start is not None
            rows.append(
                (
                    f"{dataset}, {PARTITIONS[seed]}",
                    attack,
                    *(_percent(each, rounds.final_accuracy) for each in (honest, alone, guarded)),
                    _percent(start, rounds.start_asr),
                    *(_percent(each, rounds.largest_asr) for each in (alone, guarded)),
                    "" if guarded is None else _actions(guarded),
                )
            )
    return markdown([head, *rows], right="llrrrrrr")


def _with_repairs(repairing: Sequence[Run], runs: Sequence[Run]) -> str:
    head = (
        "Federation",
        "attack",
        "accuracy: honest",
        "guarded",
        "largest ASR: candidate",
        "released",
        "rounds",
    )
    rows = [
        (
            f"{run['dataset']}, {PARTITIONS[run['seed']]}",
            str(run["attack"]),
            _percent(rounds.without_attacker(run, runs), rounds.final_accuracy),
            _percent(run, rounds.final_accuracy),
            f"{max(row.get('candidate_asr', row['asr']) for row in run['rounds']):.1%}",
            _percent(run, rounds.largest_asr),
            _actions(run),
        )
        for run in repairing
    ]
    return markdown([head, *rows], right="llrrrr")


def _actions(run: Run) -> str:
    return "`" + "".join(LETTERS[row["action"]] for row in rounds.reviewed(run)) + "`"


def _percent(run: Run | None, of: Any) -> str:
    return "–" if run is None else f"{of(run):.1%}"


def _honest(honest: Sequence[Run]) -> str:
    rows = [("Federation", "accuracy: first", "last", "held back", "verdicts of these")]
    for run in honest:
        reviewed = rounds.reviewed(run)
        held = Counter(row["verdict"] for row in reviewed if row["action"] != "accept")
        rows.append(
            (
                f"{run['dataset']}, {PARTITIONS[run['seed']]}",
                f"{run['rounds'][0]['accuracy']:.1%}",
                _percent(run, rounds.final_accuracy),
                proportion(rounds.held_back(run), len(reviewed)),
                ", ".join(f"{count} {verdict}" for verdict, count in held.items()) or "–",
            )
        )
    return markdown(rows, right="lrr")


def _provenance(runs: Sequence[Run]) -> str:
    commits = Counter(run["commit"] for run in runs)
    machines = sorted({run["machine"] for run in runs})
    told = ", ".join(f"`{commit}` ({count})" for commit, count in commits.most_common())
    torch = ", ".join(sorted({run["versions"]["torch"] for run in runs}))
    return f"Commits (federations): {told}; torch {torch}; machine: {'; '.join(machines)}."


def _overhead(file: dict[str, Any]) -> str:
    rows = [
        (
            "Network",
            "training an image",
            "a round's training",
            "guard",
            "part",
            "part, clients in parallel",
            "verdicts",
            "scans",
            "commit",
        )
    ]
    for row in file["rows"]:
        seconds = row["seconds"]
        guard = mean(seconds["reviews"][1:])
        rows.append(
            (
                row["network"],
                f"{1000 * row['seconds_per_image']:.2f} ms",
                f"{seconds['training']:,.0f} s",
                f"{guard:.1f} s",
                f"{row['share']:.1%}",
                f"{row['share_of_parallel_round']:.1%}",
                ", ".join(f"{count} {verdict}" for verdict, count in Counter(row["verdicts"]).items()),
                " + ".join(map(str, row["scans"])),
                f"`{row['commit']}`",
            )
        )
    told = "; ".join(
        sorted(
            {
                f"{row['clients']} clients, {row['images_per_client']:,} images each, {row['epochs']} epochs, torch "
                f"{row['versions']['torch']}, {row['machine']}"
                for row in file["rows"]
            }
        )
    )
    return f"{told}; processor seconds.\n\n{markdown(rows, right='lrrrrr')}"


def _votes(file: dict[str, Any]) -> str:
    kinds = ("ranks", "accuracies", "triggers")
    rows: list[tuple[str, ...]] = [("Network", "model", *kinds)]
    rows += [
        (row["network"], *(f"{each:,}" for each in (row["model_bytes"], *row["vote_bytes"].values())))
        for row in file["rows"]
        if row["vote_bytes"]
    ]
    return (
        f"Bytes that a client sends, of a model's update and of each vote:\n\n{markdown(rows, right='lrrrr')}"
    )
