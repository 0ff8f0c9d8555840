"""What a pickle may ask for, and what comes of it: nothing is run, and the work is bounded."""

import io
import pickle
from collections import OrderedDict
from typing import Any

import pytest

from fedmend.checkpoints import pickle_parsing
from fedmend.checkpoints.pickle_parsing import Meaning, Opaque, PickleParser

PAIRS = [(f"name {number}", number) for number in range(100)]


class Copied:
    """Pickled, it is a call that copies one and the same list of pairs into a dict."""

    def __reduce__(self) -> Any:
        return OrderedDict, (PAIRS,)


def parsed(content: bytes) -> Any:
    return PickleParser(
        io.BytesIO(content), Meaning({}, lambda built: built, lambda reference: reference)
    ).parse()


def test_plain_values_come_back() -> None:
    value = {"a": [1, 2.5, None, True, ("x", "y")], "b": {}, 3: "c"}
    assert parsed(pickle.dumps(value, 2)) == value
    assert parsed(pickle.dumps(OrderedDict(PAIRS), 2)) == dict(PAIRS)


def test_instructions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(list(range(1000)), 2)
    monkeypatch.setattr(pickle_parsing, "MOST_INSTRUCTIONS", 1010)
    assert parsed(content) == list(range(1000))
    monkeypatch.setattr(pickle_parsing, "MOST_INSTRUCTIONS", 990)
    with pytest.raises(ValueError, match="more than 990 pickled instructions"):
        parsed(content)


def test_a_list_that_is_copied_again_and_again_counts_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps([Copied() for _ in range(50)], 2)
    monkeypatch.setattr(pickle_parsing, "MOST_INSTRUCTIONS", 2000)
    assert len(parsed(pickle.dumps([Copied()], 2))) == 1
    with pytest.raises(ValueError, match="more than 2000 pickled instructions"):
        parsed(content)


def test_keys_are_texts_and_small_numbers() -> None:
    """Others could be chosen so that their hashes collide."""
    assert parsed(pickle.dumps({2**61: 1, 5: 2, "x": 3, (1, 2): 4, 2.5: 5}, 2)) == {5: 2, "x": 3}


def test_calls_are_not_made() -> None:
    value = parsed(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    assert isinstance(value, Opaque)
    assert (value.name, value.args) == ("os.system", ("true",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02c" + b"a" * 600 + b"\nb\n.", "without a name"),
        (b"\x80\x02K\x01K\x02\x93.", "without a name"),
        (b"\x80\x02R.", "takes more than there is"),
        (b"\x80\x02.", "unpack"),
        (b"\x80\x02h\x05.", "not a pickle"),
        (b"nonsense", "not a pickle|opcode"),
    ],
)
def test_what_is_no_pickle_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parsed(content)
