import threading
import time
from typing import Any

import pytest

from fedmend.guard import time_limit
from fedmend.guard.time_limit import TimeLimitError, ending_in_time
from fedmend.progress import Progress, silent


@pytest.fixture(autouse=True)
def _little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "GRACE", 0.2)


@pytest.mark.parametrize("limit", [None, 60.0])
def test_what_ends_in_time_returns_or_raises(limit: float | None) -> None:
    told: list[tuple[str, int, int]] = []

    def work(progress: Progress) -> int:
        progress("work", 1, 2)
        return 7

    def failing(progress: Progress) -> int:
        raise KeyError("x")

    assert ending_in_time(work, limit, lambda *said: told.append(said)) == 7
    assert told == [("work", 1, 2)]
    with pytest.raises(KeyError):
        ending_in_time(failing, limit, silent)


def test_without_a_limit_work_stays_in_its_thread() -> None:
    assert ending_in_time(lambda _: threading.current_thread(), None, silent) is threading.current_thread()


def test_work_that_reports_progress_is_asked_to_stop_and_tidies_up() -> None:
    tidied: list[bool] = []

    def work(progress: Progress) -> None:
        try:
            while True:
                time.sleep(0.005)
                progress("work", 0, 1)
        finally:
            tidied.append(True)

    with pytest.raises(TimeLimitError):
        ending_in_time(work, 0.1, silent)
    assert tidied == [True]


def test_work_that_says_nothing_is_interrupted() -> None:
    ended = threading.Event()

    def work(progress: Progress) -> Any:
        try:
            while True:
                time.sleep(0.005)
        finally:
            ended.set()

    with pytest.raises(TimeLimitError):
        ending_in_time(work, 0.1, silent)
    assert ended.wait(10)


def test_work_in_c_code_is_left_behind() -> None:
    started = time.monotonic()
    with pytest.raises(TimeLimitError):
        ending_in_time(lambda _: threading.Event().wait(20), 0.1, silent)
    assert time.monotonic() - started < 15


def test_work_that_would_end_python_is_an_error() -> None:
    def work(progress: Progress) -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        ending_in_time(work, 60.0, silent)
