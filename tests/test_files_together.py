"""The results of one command: all land, or none, whatever happens on the way."""

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedmend import files
from fedmend.errors import OutputError
from fedmend.files import remove_leftovers, undo_unfinished, write_atomically, write_text, write_together
from written_together import AFTER, EARLIER, NEW, Stopped, contents, failing

HOLD = """
import sys, time
from pathlib import Path
from fedmend.folder_locks import locked
with locked(Path(sys.argv[1]), "holding"):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in EARLIER.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_all_are_written_and_what_is_to_go_is_gone(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        write_together(folder, NEW, ["gone.txt", "never there.txt", "a.txt"])
    finally:
        os.umask(before)
    assert contents(folder) == AFTER
    assert stat.S_IMODE((folder / "b.txt").stat().st_mode) == 0o640


def test_the_folder_is_made_and_a_function_may_write(tmp_path: Path) -> None:
    write_together(tmp_path / "x" / "y", {"n.bin": lambda path: path.write_text("by hand") and None})
    assert contents(tmp_path) == {"x/y/n.bin": "by hand"}


def test_nothing_moves_until_all_are_written(folder: Path) -> None:
    seen = []

    def write(path: Path) -> None:
        seen.append({name: text for name, text in contents(folder).items() if ".tmp" not in name})
        path.touch()

    write_together(folder, {**NEW, "last.txt": write}, ["gone.txt"])
    assert seen == [EARLIER]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), Stopped(), MemoryError()])
def test_a_writer_that_fails_changes_nothing(folder: Path, error: BaseException) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise error

    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        write_together(folder, {**NEW, "last.txt": fail}, ["gone.txt"])
    assert contents(folder) == EARLIER


def test_an_error_names_the_file_and_not_where_it_is_prepared(folder: Path) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for writer in (fail, partial(write_atomically, write=fail)):
        with pytest.raises(OutputError, match="No space left on device") as caught:
            write_together(folder, {"sub/last.txt": writer})
        assert f"{folder}/sub/last.txt" in str(caught.value)
        assert ".tmp" not in str(caught.value)


def test_an_earlier_report_is_kept_with_all_that_it_consists_of(folder: Path) -> None:
    write_together(folder, NEW, ["gone.txt"], reports=["never there.txt"])
    assert contents(folder) == AFTER
    assert (
        write_together(folder, {"a.txt": "newest"}, ["sub/c.txt"], reports=["sub/c.txt"])
        == folder / "earlier-1"
    )
    (folder / "earlier-x").mkdir()
    (folder / "earlier-9").mkdir()
    assert write_together(folder, {"b.txt": "newest"}, reports=["b.txt"]) == folder / "earlier-10"
    kept = {"earlier-1/a.txt": "new a", "earlier-1/sub/c.txt": "new c", "earlier-10/b.txt": "new b"}
    now = AFTER | {"a.txt": "newest", "b.txt": "newest"} | kept
    del now["sub/c.txt"]
    assert contents(folder) == now


MOVES = range(1, 8)
"""The list of names, four new files, one to remove, and the end."""


@pytest.mark.parametrize("stop", MOVES)
@pytest.mark.parametrize("error", [partial(OSError, errno.ENOSPC, "full"), Stopped])
def test_a_move_that_fails_brings_all_back(
    folder: Path, stop: int, error: Callable[[], BaseException]
) -> None:
    with failing(stop, error), pytest.raises((OutputError, Stopped)):
        write_together(folder, NEW, ["gone.txt"])
    assert contents(folder) == EARLIER


@pytest.mark.parametrize("stop", range(1, 9))
def test_what_was_to_be_kept_comes_back_as_well(folder: Path, stop: int) -> None:
    with failing(stop, Stopped), pytest.raises(Stopped):
        write_together(folder, NEW, ["gone.txt"], reports=["a.txt"])
    assert contents(folder) == EARLIER
    kill(folder, stop, reports=["a.txt"])
    undo_unfinished(folder)
    assert contents(folder) == EARLIER


def kill(folder: Path, stop: int, reports: Sequence[str] = ()) -> None:
    """A process that dies in the middle of the moves, and so takes nothing back."""
    with failing(stop, Stopped) as patched:
        patched.setattr(files, "_undo", lambda *_: None)
        with pytest.raises(Stopped):
            write_together(folder, NEW, ["gone.txt"], reports)
    assert any(".tmp" in name for name in contents(folder))


@pytest.mark.parametrize("stop", MOVES)
def test_after_a_kill_the_earlier_files_come_back(folder: Path, stop: int) -> None:
    kill(folder, stop)
    undo_unfinished(folder)
    assert contents(folder) == EARLIER


def test_the_next_command_tidies_up_first(folder: Path) -> None:
    kill(folder, 4)
    write_together(folder, {"other.txt": "other"})
    assert contents(folder) == EARLIER | {"other.txt": "other"}


def test_where_links_cannot_be_made_copies_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    with failing(5, Stopped), pytest.raises(Stopped):
        write_together(folder, NEW, ["gone.txt"])
    assert contents(folder) == EARLIER


def test_a_planted_list_of_names_reaches_nothing_outside(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    staging = folder / ".results-planted.tmp"
    staging.mkdir(parents=True)
    (tmp_path / "precious.txt").write_text("precious")
    (folder / "away").symlink_to(tmp_path)
    (staging / "undo.json").write_text(
        f'{{"moved": ["../precious.txt", "{tmp_path}/precious.txt", "away/precious.txt", 5], "kept": null}}'
    )
    linked = folder / ".results-linked.tmp"
    linked.symlink_to(tmp_path)
    undo_unfinished(folder)
    assert (tmp_path / "precious.txt").read_text() == "precious"
    assert not staging.exists()
    assert linked.is_symlink()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "5",
        '{"a": 1}',
        '{"moved": ["a.txt"], "kept": "sub"}',
        '{"moved": [], "kept": 5}',
    ],
)
def test_a_list_of_names_that_is_none(folder: Path, text: str) -> None:
    (folder / ".results-x.tmp").mkdir()
    (folder / ".results-x.tmp" / "undo.json").write_text(text)
    undo_unfinished(folder)
    assert contents(folder) == EARLIER


def test_a_link_is_replaced_and_not_what_it_points_to(folder: Path) -> None:
    (folder / "b.txt").symlink_to(folder / "mine.txt")
    write_together(folder, {"b.txt": "new b"})
    assert contents(folder) == EARLIER | {"b.txt": "new b"}


def test_a_folder_in_a_files_place(folder: Path) -> None:
    (folder / "b.txt").mkdir()
    with pytest.raises(OutputError, match=r"can't write .*b.txt: Is a directory"):
        write_together(folder, NEW, ["gone.txt"])
    assert contents(folder) == EARLIER


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write_together(folder, NEW)
        undo_unfinished(folder)
    finally:
        folder.chmod(0o755)
    assert contents(folder) == EARLIER


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process has the folder's lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(os.name != "posix", reason="no locks")
def test_two_at_once_are_one_clear_error_and_a_killed_one_holds_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WAIT_SECONDS", 0.1)
    with held(folder) as other:
        with pytest.raises(
            OutputError, match=r"another fedmend is writing results to .* choose another folder"
        ):
            write_together(folder, NEW)
        assert contents(folder) == EARLIER
        other.kill()
        other.wait()
        write_together(folder, NEW, ["gone.txt"])
    assert contents(folder) == AFTER


def test_what_a_killed_write_left_goes_with_the_next(tmp_path: Path) -> None:
    left, other = tmp_path / ".note [1].txt.abc.tmp", tmp_path / ".other.txt.abc.tmp"
    left.touch()
    other.touch()
    write_text(tmp_path / "note [1].txt", "whole")
    assert contents(tmp_path) == {"note [1].txt": "whole", other.name: ""}
    remove_leftovers(tmp_path)
    assert contents(tmp_path) == {"note [1].txt": "whole"}


@pytest.mark.skipif(os.name != "posix", reason="no locks")
def test_what_is_being_written_is_left_alone(tmp_path: Path) -> None:
    def meanwhile(temporary: Path) -> None:
        remove_leftovers(tmp_path)
        assert temporary.exists()
        write_text(tmp_path / "note.txt", "by another")
        temporary.write_text("by this one")

    write_atomically(tmp_path / "note.txt", meanwhile)
    assert contents(tmp_path) == {"note.txt": "by this one"}


def test_a_folder_removed_meanwhile(folder: Path) -> None:
    with pytest.raises(OutputError, match="can't write"):
        write_together(folder, {"a.txt": lambda _: shutil.rmtree(folder)})
