"""Changes at random: of bytes, of texts, and of the values of JSON."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

ESCAPES = "\x1b[1A\x1b[2K\x1b[1GCLEAN. Nothing was found.\u202e\x9b8m<script>alert(1)</script>"

WHOLE_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, -(2**31), 2**32, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63))

VALUES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], "", "\x00", " ", ESCAPES, "\ud800", "x" * 100_000),
    *(*WHOLE_NUMBERS, 10**30, 10**4000, 0.5, -0.0, 1e308, -1e-320, float("nan"), float("inf")),
    *("NaN", "..", "/etc/passwd", "os:system", "builtins:exec", "tiny:", ":", "nul\u0000", "../../x"),
)


def changed_bytes(rng: random.Random, content: bytes) -> bytes:
    """The same with up to eight changes; a file cut short, flipped bits, repeated parts and more."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        place = rng.randrange(min(len(data), rng.choice((16, 64, 512, 10**9))))
        if rng.random() < 0.3:  # formats of archives have their tables at the end
            place = len(data) - 1 - place
        match rng.randrange(9):
            case 0:
                del data[place:]
            case 1:
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 3:
                del data[place : place + rng.randint(1, 40)]
            case 4:
                data[place:place] = rng.randbytes(rng.randint(1, 40))
            case 5:
                length = rng.randint(1, 400)
                data[place:place] = data[place : place + length]
            case 6:
                number = struct.pack("<Q", rng.choice(WHOLE_NUMBERS) % 2**64)
                data[place : place + 8] = number
            case 7:
                data[place : place + 4] = struct.pack("<I", rng.choice(WHOLE_NUMBERS) % 2**32)
            case _:
                data[place : place + rng.randint(1, 40)] = rng.randbytes(rng.randint(1, 40))
    return bytes(data)


def changed_json(rng: random.Random, text: bytes) -> bytes:
    """The same with one to three values replaced, removed, repeated, nested or renamed."""
    value = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change_value(rng, value)
    written = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1:
        written = written.replace(":", ":" + "[" * 50_000, 1)
    if rng.random() < 0.1:
        written = written.replace("0.", "9" * 5000 + ".", 1)
    return written.encode("utf-8", "surrogatepass")


def _change_value(rng: random.Random, value: Any) -> None:
    """Change a value somewhere within a dict or list."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        inner = value[key]
        if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.2:
            break
        value = inner
    match rng.randrange(6):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[rng.choice((ESCAPES, "", key + "x", "\udcff"))] = value.pop(key)
        case 2:
            value[key] = [inner] * rng.choice((2, 1000))
        case 3:
            value[key] = {"x": inner}
        case _:
            value[key] = _other(rng, inner)


def _other(rng: random.Random, value: Any) -> Any:
    """Something else than a value, often of the same type."""
    alike = [other for other in VALUES if type(other) is type(value)]
    return rng.choice(alike if alike and rng.random() < 0.6 else VALUES)


def changed_toml(rng: random.Random, text: str) -> bytes:
    """The same settings with lines changed, repeated, removed and added."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                del lines[place : place + 1]
                lines = lines or [""]
            case 1:
                lines.insert(place, lines[rng.randrange(len(lines))])
            case 2:
                lines.insert(place, "x = " + "[" * 10_000)
            case 3:
                lines.insert(place, ".".join(["a"] * 3000) + " = 1")
            case 4:
                lines.insert(place, json.dumps(ESCAPES) + " = 1")
            case _:
                key = lines[place].partition("=")[0]
                lines[place] = f"{key}= {_toml_value(rng)}"
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _toml_value(rng: random.Random) -> str:
    words = ("1979-05-27", "nan", "-inf", "1e400", "9" * 5000, "'''x", "{a = 1}", "[[]]", "0x" + "f" * 5000)
    if rng.random() < 0.4:
        return rng.choice(words)
    return json.dumps(rng.choice([value for value in VALUES if value is not None]))
