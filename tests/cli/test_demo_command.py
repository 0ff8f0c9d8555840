from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmend.cli import demo_command
from fedmend.progress import Progress, silent


def test_nothing_is_printed_beside_a_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a terminal it would stand in the bar's line."""
    drawn, printed = [], []

    @contextmanager
    def bars(stages: int = 1) -> Iterator[Progress]:
        drawn.append(stages)
        yield silent
        drawn.pop()

    def show(text: str) -> None:
        assert not drawn
        printed.append(text)

    def working(result: Any) -> Any:
        def work(*_: Any, **__: Any) -> Any:
            assert drawn
            return result

        return work

    monkeypatch.setattr(demo_command, "progress_bars", bars)
    monkeypatch.setattr(demo_command, "show", show)
    monkeypatch.setattr(demo_command, "simulate", working("a run"))
    monkeypatch.setattr(demo_command, "choose_threads", lambda *_: None)
    monkeypatch.setattr(demo_command, "_federation", lambda *_: "the federation")
    monkeypatch.setattr(demo_command, "_scan_and_repair", working("the scan and the repair"))
    demo_command.demo(tmp_path, True, "cpu")
    report = f"\nReport: {(tmp_path / 'report.html').resolve()}"
    assert printed == ["the federation", "the scan and the repair", report]


def test_it_chooses_its_threads_before_it_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With several threads, a busy machine slows so small a network many times over."""
    chosen = []

    def trained(*_: Any, **__: Any) -> None:
        assert chosen == [0]
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_command, "choose_threads", lambda cost, device: chosen.append(cost))
    monkeypatch.setattr(demo_command, "simulate", trained)
    with pytest.raises(KeyboardInterrupt):
        demo_command.demo(tmp_path, True, "cpu")
