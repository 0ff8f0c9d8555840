"""Codes 0, 1 and 3 come from verdicts alone, whatever ends the process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fedmend.cli import console
from fedmend.cli.console import TerminatedError

Refused = Callable[..., None]

PROCESS = """
import atexit, ctypes, os, sys
import fedmend.__main__, fedmend.cli

def command():
    {body}

fedmend.cli.main = command
fedmend.__main__.main()
"""


def ended(body: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    """A process of the command line, with this in place of the command."""
    program = PROCESS.format(body=body)
    return subprocess.run(
        [sys.executable, "-c", program],
        text=True,
        timeout=60,
        check=False,
        **({"capture_output": True} | streams),
    )


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_a_verdict_s_code_is_the_process_s(code: int) -> None:
    done = ended(f"atexit.register(print, 'tidied up'); sys.exit({code})")
    assert (done.returncode, done.stdout, done.stderr) == (code, "tidied up\n", "")


@pytest.mark.parametrize(
    "body",
    [
        "os._exit(0)",
        "os._exit(1)",
        "ctypes.CDLL(None).exit(1)",
        "ctypes.CDLL(None).exit(0)",
        "atexit.register(os._exit, 0); sys.exit(1)",
        "import no_such_module",
        "raise MemoryError",
        "sys.exit('a text')",
    ],
)
def test_what_ends_the_process_otherwise_is_no_verdict(body: str) -> None:
    assert ended(body).returncode == 70


def test_a_child_process_ends_as_it_likes() -> None:
    body = "pid = os.fork(); pid or os._exit(5); sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    assert ended(body).returncode == 5


def command(*arguments: str, **streams: Any) -> int:
    words = [sys.executable, "-m", "fedmend", *arguments]
    return subprocess.run(words, timeout=60, check=False, **streams).returncode


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device")  # noqa: PTH110
def test_streams_that_are_full_or_closed() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        assert command("--help", stdout=full, stderr=subprocess.DEVNULL) == 2
        assert command("--no-such-option", stderr=full) == 2
        assert command("--help", stdout=full, stderr=full) == 2
    reading, writing = os.pipe()
    os.close(reading)
    assert command("--help", stdout=writing, stderr=subprocess.DEVNULL) == 2
    assert command("--no-such-option", stderr=writing) == 2
    os.close(writing)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SystemExit(0), 2, r"called sys\.exit\(0\); remove that call"),
        (SystemExit(1), 2, r"called sys\.exit\(1\); remove that call"),
        (SystemExit("\n" * 9), 2, r"called sys\.exit\(\)"),
        (RuntimeError("can't start new thread"), 2, "allow more processes"),
        (TerminatedError(15), 143, "asked to end; no partial files were left"),
    ],
)
def test_a_search_that_ends_otherwise(
    refused: Refused,
    files: Any,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Any,
    code: int,
    message: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("fedmend.cli.scan_command.run_scan", fail)
    refused(files.scan(files.model("clean"), tmp_path / "out"), message, code)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_to_end_is_an_error_and_only_the_first_counts(
    capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    number = getattr(signal, name)
    tidied = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            tidied.append(True)

    before = signal.getsignal(number)
    assert console.run(work) == code
    assert tidied
    assert signal.getsignal(number) == before
    assert capsys.readouterr().err == "fedmend: asked to end; no partial files were left\n"


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert console.run(lambda: signal.raise_signal(signal.SIGHUP)) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
