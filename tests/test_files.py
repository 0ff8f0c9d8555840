import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmend.errors import OutputError
from fedmend.files import write_atomically, write_text


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_is_written_as_utf_8_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "Größe ✓ \udce9\n")
    assert path.read_bytes() == "Größe ✓ \\udce9\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_an_earlier_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "a long first version")
    write_text(path, "second")
    assert path.read_text() == "second"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        seen.append((path.read_text(), temporary.parent == path.parent))

    write_atomically(path, write)
    assert seen == [("old", True)]
    assert path.read_text() == "new"


def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "note.txt", "")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "note.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("error", [ValueError("in the middle"), KeyboardInterrupt(), SystemExit(1)])
def test_whatever_goes_wrong_leaves_what_was_there(tmp_path: Path, error: BaseException, there: bool) -> None:
    path = tmp_path / "note.txt"
    if there:
        path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("note.txt", "old")] * there


@pytest.mark.parametrize("failing", ["open", "write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    write: Callable[[Path], None] = full_disk if failing == "write" else Path.touch
    with monkeypatch.context() as patched:
        if failing == "open":
            patched.setattr("tempfile.mkstemp", full_disk)
        elif failing == "fsync":
            patched.setattr("os.fsync", full_disk)
        elif failing == "replace":
            patched.setattr(Path, "replace", full_disk)
        with pytest.raises(OutputError, match="No space left on device") as caught:
            write_atomically(path, write)
    assert str(path) in str(caught.value)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("note.txt", "old")]


def test_a_folder_that_vanishes_meanwhile_is_one_clear_error(tmp_path: Path) -> None:
    folder = tmp_path / "gone"

    def write(temporary: Path) -> None:
        temporary.unlink()
        folder.rmdir()
        folder.write_text("a file now")
        temporary.write_text("x")

    with pytest.raises(OutputError, match="can't write"):
        write_atomically(folder / "note.txt", write)


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="choose a writable folder"):
        write_text(tmp_path / "taken" / "note.txt", "text")
    with pytest.raises(OutputError, match="choose a writable folder"):
        write_text(tmp_path / "taken" / "deeper" / "note.txt", "text")
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_folder_where_a_file_is_needed(tmp_path: Path) -> None:
    (tmp_path / "note.txt").mkdir()
    with pytest.raises(OutputError, match="can't write"):
        write_text(tmp_path / "note.txt", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "note.txt"]
