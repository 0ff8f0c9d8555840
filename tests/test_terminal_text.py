import json

import pytest

from fedmend.terminal_text import printable

REWRITES = {
    "escape sequence": "\x1b[1A\x1b[2KCLEAN",
    "8-bit control sequence": "\x9b2J",
    "line break": "a\nCLEAN. Nothing was found.",
    "carriage return": "a\rCLEAN",
    "other line breaks": "\u2028\u2029\x85\x0b\x0c",
    "backspace": "a\b\b",
    "text direction": "\u202eNAELC\u2066\u200f",
    "invisible": "\u200b\u00ad\U000e0041",
    "lone surrogate": "\udce9\ud800",
}


@pytest.mark.parametrize("text", REWRITES.values(), ids=REWRITES)
def test_what_could_rewrite_a_terminal_is_escaped(text: str) -> None:
    safe = printable(text)
    assert safe.isprintable()
    safe.encode()
    assert printable(safe) == safe
    # What was escaped can still be told, also within JSON.
    assert json.loads(f'"{safe}"') == text


@pytest.mark.parametrize("text", ["Sandal", 'a "b" \\ c', "Stopp – 30 km/h", "猫", "سيارة", "🚗", ""])
def test_other_text_stays(text: str) -> None:
    assert printable(text) == text
