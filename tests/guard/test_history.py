"""The history on disk: what is kept, and what is refused because it isn't as the guard wrote it."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from guarded_nets import net, new_guard

from fedmend.errors import DataError, OutputError
from fedmend.files import write_bytes
from fedmend.guard import Guard, History, Ledger, digest

Make = Callable[..., Guard]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history of a trusted model, two accepted rounds and a rejected one."""
    made = new_guard(tmp_path_factory.mktemp("written") / "history")
    for number, mark in enumerate((0.0, 0.1, 3.0), 1):
        made.review(net(mark, seed=number), number)
    return Path(made.history)


@pytest.fixture
def history(written: Path, tmp_path: Path) -> History:
    """A copy, where ``guard`` has its own."""
    return History(Path(shutil.copytree(written, tmp_path / "history")))


def test_the_manifest_names_what_is_kept(history: History) -> None:
    ledger = history.check()
    assert [(each.round, each.parent, each.verdict) for each in ledger.models] == [
        (None, None, "trusted"),
        (1, None, "clean"),
        (2, 1, "clean"),
    ]
    assert (ledger.lines, ledger.reviews, ledger.last_round, ledger.rejections) == (4, 3, 3, 1)
    newest = json.loads(history.manifest.read_text())["models"][-1]
    file = history.models / newest["stored"]["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == newest["stored"]["sha256"]
    assert newest["stored"]["weights"] == digest(net(0.1, seed=2).state_dict())
    assert newest["accuracy"] == 1.0
    assert newest["policy"]["every"] == 1
    assert set(newest["versions"]) == {"fedmend", "torch", "python"}


def test_each_decision_is_a_line_that_holds_the_digest_of_the_one_before(history: History) -> None:
    texts = history.decisions.read_bytes().splitlines()
    lines = [json.loads(text) for text in texts]
    assert [each["round"] for each in lines] == [None, 1, 2, 3]
    assert lines[0]["previous"] == "0" * 64
    for before, line in zip(texts, lines[1:], strict=False):
        assert line["previous"] == hashlib.sha256(before).hexdigest()
    given, first, second, rejected = (line["evidence"]["digests"] for line in lines)
    assert given["input"] == given["output"] == first["references"]["the model given at the start"]
    assert second["references"] == {"round 1's accepted model": first["output"]}
    assert rejected["output"] == second["output"]


def test_the_history_is_bounded(guard: Make) -> None:
    made = guard(history_limit=2)
    for number in range(1, 6):
        made.review(net(seed=number), number)
    history = History(Path(made.history))
    assert sorted(file.name for file in history.models.iterdir()) == [
        "round-0004-4.safetensors",
        "round-0005-5.safetensors",
    ]
    assert [each.round for each in history.check().models] == [4, 5]
    guard(history_limit=2)  # the trusted model is the one that it was begun with, though it isn't kept


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


def last_line_removed(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def changed_reason(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"higher", b"lower!", 1))


def other_accuracy(path: Path) -> None:
    path.write_bytes(re.sub(rb'"accuracy": ?1.0', b'"accuracy":0.5', path.read_bytes(), count=1))


def swapped(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2], lines[1], lines[3]]))


def lines_added(path: Path) -> None:
    path.write_bytes(path.read_bytes() + 2 * path.read_bytes().splitlines(keepends=True)[-1])


NEWEST = "models/round-0002-2.safetensors"


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        (name, harm)
        for name in (NEWEST, "models/start.safetensors")
        for harm in (flipped, cut, emptied, removed)
    ]
    + [("manifest.json", harm) for harm in (cut, emptied, removed, other_accuracy)]
    + [
        ("decisions.jsonl", harm)
        for harm in (cut, emptied, removed, last_line_removed, changed_reason, swapped, lines_added)
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_harmed_file_is_refused_by_name(
    history: History, guard: Make, name: str, harm: Callable[[Path], None]
) -> None:
    before = guard()
    harm(history.path / name)
    named = f"{history.path.name}/{name}"
    with pytest.raises(DataError, match=re.escape(named)):
        history.check()
    with pytest.raises(DataError, match=re.escape(named)):
        guard()
    if "start" not in name:  # a review reads only what it needs
        with pytest.raises(DataError, match=re.escape(named)):
            before.review(net(seed=4), 4)


def test_a_file_of_other_weights_with_the_digest_of_the_file_is_refused(history: History) -> None:
    """Who changes the manifest as well is found out by the decisions."""
    from fedmend.checkpoints import state_bytes

    content = state_bytes(net(seed=99).state_dict())
    old = hashlib.sha256((history.path / NEWEST).read_bytes()).hexdigest()
    (history.path / NEWEST).write_bytes(content)
    new = hashlib.sha256(content).hexdigest()
    history.manifest.write_text(history.manifest.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"decisions.jsonl is not what .*manifest.json was written for"):
        history.check()


def test_a_line_that_a_killed_process_tore_is_cut_off(history: History, guard: Make) -> None:
    whole = history.decisions.read_bytes()
    with history.decisions.open("ab") as file:
        file.write(b'{"round": 4, "act')
    assert history.check().lines == 4
    guard().review(net(seed=4), 4)
    assert history.decisions.read_bytes().startswith(whole)
    assert history.check().lines == 5


def test_files_that_no_line_names_are_removed(history: History, guard: Make) -> None:
    (history.models / "round-0009-9.safetensors").write_bytes(b"left by a killed process")
    (history.models / ".round-0009-9.safetensors.abc.tmp").write_bytes(b"half")
    guard()
    assert sorted(file.name for file in history.models.iterdir()) == [
        "round-0001-1.safetensors",
        "round-0002-2.safetensors",
        "start.safetensors",
    ]


def test_a_second_guard_at_the_same_time_is_refused(history: History, guard: Make) -> None:
    made = guard()
    with history.locked(), pytest.raises(OutputError, match="another fedmend is guarding a federation"):
        made.review(net(seed=4), 4)


def test_a_full_disk_is_one_error_and_leaves_the_history_intact(
    history: History, guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = guard()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            made.review(net(seed=4), 4)
    assert history.check().last_round in (3, 4)
    decision = made.review(net(seed=4), 4)
    assert decision.action == "accept"
    assert history.check().lines == 5


def test_a_line_that_the_disk_may_not_hold_is_taken_back(
    history: History, guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may say only at the end that there is no space for what it took."""
    made, before = guard(), history.decisions.read_bytes()
    fsync, failed = os.fsync, []

    def full(file: int) -> None:
        if not failed and os.path.samestat(os.fstat(file), history.decisions.stat()):
            failed.append(file)
            raise OSError(28, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OutputError, match=r"decisions.jsonl: No space left on device"):
            made.review(net(seed=4), 4)
    assert history.decisions.read_bytes() == before
    assert made.review(net(seed=4), 4).action == "accept"


def test_a_decision_without_space_for_the_manifest_stands(
    history: History, guard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, noted, candidate = guard(), history.manifest.read_bytes(), net(seed=4)

    def full(path: Path, content: bytes) -> None:
        if path == history.manifest:
            raise OutputError(f"can't write {path}")
        write_bytes(path, content)

    monkeypatch.setattr("fedmend.guard.history.write_bytes", full)
    decision = made.review(candidate, 4)
    assert history.manifest.read_bytes() == noted
    released = made.released()
    assert decision.action == "accept"
    assert released is not None
    assert digest(released) == digest(candidate.state_dict())
    assert history.check().last_round == 4
    with pytest.raises(OutputError, match=r"manifest.json"):
        made.review(net(seed=5), 5)
    monkeypatch.undo()
    assert made.review(net(seed=5), 5).action == "accept"
    assert history.check().lines == 6


def test_a_line_that_does_not_follow_the_one_before_is_refused(history: History) -> None:
    """Also where the manifest was written anew for it."""
    last = history.lines()[-1]
    with pytest.raises(DataError, match="line 1 doesn't hold the digest of the line before it"):
        Ledger(last.seed).add(last, b"")
    first = history.lines()[0]
    with pytest.raises(DataError, match="line 1 has the seed 7; the guard's is 8"):
        Ledger(8).add(first, b"")
