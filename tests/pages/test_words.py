from __future__ import annotations

from fedmend.pages.words import class_list, duration, flatten, limit, number, patch_size, percent, points

NAN, INF = float("nan"), float("inf")


def test_fractions() -> None:
    assert [percent(value) for value in (0.931, 1.0, 0.0, None, NAN)] == ["93.1%", "100.0%", "0.0%", "–", "–"]
    assert [points(value) for value in (0.01, NAN)] == ["1.0 points", "–"]
    assert [limit(0.8, "fraction"), limit(0.025, "fraction"), limit(10.0, "log")] == ["80%", "2.5%", "10"]


def test_numbers() -> None:
    assert [number(v) for v in (12345.6, 125.4, 12.54, 1.254, 0.0125, 1e-9, 0.0, 10.0, -1.5, -3.0)] == [
        "12,346", "125", "12.5", "1.25", "0.013", "<0.001", "0", "10", "−1.50", "−3",
    ]  # fmt: skip
    assert [number(v) for v in (NAN, INF, -INF, 1e300)] == ["–", "∞", "−∞", "1e+300"]
    assert [patch_size(v) for v in (7.0, 6.194)] == ["7", "6.2"]


def test_times() -> None:
    assert [duration(v) for v in (6.43, 9.99, 59.7, 192.0, 3900.0, NAN)] == [
        "6.4 s", "10 s", "1 min 0 s", "3 min 12 s", "1 h 5 min", "–",
    ]  # fmt: skip


def test_settings() -> None:
    assert dict(flatten({"a": {"b": 0.1, "c": None}, "d": [1, 2], "e": True, "f": {}, "g": [{"h": 1}]})) == {
        "a.b": "0.1", "a.c": "none", "d": "1, 2", "e": "yes", "f": "none", "g": "h 1",
    }  # fmt: skip


def test_classes() -> None:
    names = ("cat", " ", "owl")
    assert class_list((), names) == "all other classes"
    assert class_list((0, 1, 2, 9), names) == "cat, class 1, owl, class 9"
    assert class_list(range(8), ()) == "class 0, class 1, class 2, class 3, class 4, class 5 and 2 more"
