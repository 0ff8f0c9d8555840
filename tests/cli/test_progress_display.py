import io
import sys
from dataclasses import dataclass, field

import pytest

from fedmend.cli import console, progress_display
from fedmend.cli.progress_display import PeriodicLines, StageCounter


@dataclass
class Noted:
    shown: list[object] = field(default_factory=list)

    def begin(self, title: str, total: int) -> None:
        self.shown.append(title)

    def update(self, done: int, total: int) -> None:
        self.shown.append((done, total))


def test_stages_are_numbered_and_none_goes_backwards() -> None:
    display = Noted()
    counter = StageCounter(3, display)
    calls = [("a", 1, 4), ("a", 3, 4), ("a", 2, 4), ("a", 4, 4), ("a", 1, 2), ("b", 1, 1), ("a", 0, 9)]
    for stage, done, total in calls:
        counter.report(stage, done, total)
    assert display.shown == [
        "stage 1 of at most 3: a",
        (1, 4),
        (3, 4),
        (3, 4),
        (4, 4),
        "stage 2 of at most 3: a",
        (1, 2),
        "stage 3 of at most 3: b",
        (1, 1),
        "stage 4 of at most 4: a",
        (0, 9),
    ]


def test_a_single_stage_has_no_number() -> None:
    display = Noted()
    StageCounter(1, display).report("a", 1, 4)
    assert display.shown == ["a", (1, 4)]


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(progress_display, "LINE_SECONDS", 30.0)
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: now)
    with console.progress_bars(2) as progress:
        for second in range(70):
            now = 1000.0 + second
            progress("search", second, 100)
    assert capsys.readouterr().err == (
        "fedmend: stage 1 of at most 2: search: 30 of 100 after 30 s\n"
        "fedmend: stage 1 of at most 2: search: 60 of 100 after 60 s\n"
    )


def test_a_stderr_that_is_full_or_closed_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError("full")

    monkeypatch.setattr(progress_display, "LINE_SECONDS", 0.0)
    for stream in (Full(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        lines = PeriodicLines()
        lines.begin("search", 1)
        lines.update(1, 1)


def test_on_a_terminal_there_is_a_bar_that_keeps_to_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with console.progress_bars(2) as progress:
        progress("search", 5, 10)
        progress("repair", 1, 2)
    assert "stage 2 of at most 2: repair" in terminal.getvalue()
    assert "/10" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()
    assert "\x1b[1A" not in terminal.getvalue()  # up a line
    assert terminal.getvalue().endswith("\r\x1b[2K\x1b[?25h")  # the bar is removed
