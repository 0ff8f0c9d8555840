"""Parses pickles without running them: nothing is imported, nothing is called, no class is constructed.

:mod:`pickletools` decodes the instructions, and a small stack machine follows them. It builds dicts, lists, tuples,
strings and numbers. What a pickle names is a :class:`Global`, and what it would build from that an :class:`Opaque`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MOST_INSTRUCTIONS = 1_000_000
"""About five seconds; the weights of a network with an optimizer take some ten thousand."""


@dataclass(frozen=True, slots=True)
class Global:
    """A function or class that a pickle names, such as ``torch.FloatStorage``."""

    name: str


@dataclass(slots=True, eq=False)
class Opaque:
    """An object that a pickle would build.

    Attributes:
        name: of the function or class that would build it.
        args: with which it would be called.
        items: what would be put into it, if it is a dict of some kind.
        state: what its attributes would be.
    """

    name: str
    args: tuple[Any, ...] = ()
    items: dict[str | int, Any] = field(default_factory=dict)
    state: object = None


@dataclass(frozen=True)
class Meaning:
    """What the objects of a kind of file mean.

    Attributes:
        calls: from names to functions of the arguments, which return the value instead of an opaque object.
        built: what an opaque object is once it has its state; itself, for most.
        persistent: from the reference to something outside of the pickle to its value.
    """

    calls: Mapping[str, Callable[..., Any]]
    built: Callable[[Opaque], Any]
    persistent: Callable[[Any], Any]


_LONGEST_NAME = 500


class PickleParser:
    """Follows one pickle after the other in a stream of bytes.

    Attributes:
        names: all that the pickles so far would import.
    """

    def __init__(self, stream: BinaryIO, meaning: Meaning) -> None:
        self.names: set[str] = set()
        self._stream, self._meaning = stream, meaning
        self._left = MOST_INSTRUCTIONS
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def parse(self) -> Any:
        """The value of the pickle at the stream's position, which is then behind it.

        Raises:
            ValueError: this is no pickle, or one that is damaged, too long or hostile.
        """
        self._stack, self._marks, self._memo = [], [], {}
        try:
            for opcode, argument, _ in pickletools.genops(self._stream):
                self._left -= 1
                if self._left < 0:
                    raise ValueError(f"more than {MOST_INSTRUCTIONS} pickled instructions")
                self._follow(opcode.name, argument)
            (value,) = self._stack
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"not a pickle: {type(error).__name__}") from error
        return value

    def _follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the pickle instruction {name}")

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise ValueError("a pickle takes more than there is")
        del self._stack[-count:]
        return items

    def _pop_any(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop(1)

    def _name(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str or len(module) + len(name) > _LONGEST_NAME:
            raise ValueError("a pickle imports something without a name")
        full = f"{module}.{name}"
        self.names.add(full)
        self._stack.append(Global(full))

    def _call(self, function: object, args: object) -> None:
        args = args if type(args) is tuple else ()
        if not isinstance(function, Global):
            self._stack.append(Opaque("?"))
        elif function.name in _DICTS:
            self._stack.append({})
            pairs = args[0] if args and type(args[0]) is list else []
            self._left -= len(pairs)  # the same list may be copied again and again
            self._put([part for pair in pairs if type(pair) in (list, tuple) for part in pair])
        elif function.name in self._meaning.calls:
            self._stack.append(self._meaning.calls[function.name](*args))
        elif function.name == "copy_reg._reconstructor" and args and isinstance(args[0], Global):
            self._stack.append(Opaque(args[0].name))
        else:
            self._stack.append(Opaque(function.name, args))

    def _build(self) -> None:
        target, state = self._pop(2)
        if isinstance(target, Opaque):
            target.state = state
            target = self._meaning.built(target)
        self._stack.append(target)

    def _put(self, items: list[Any]) -> None:
        """Put keys and values into the dict on the stack; only texts and numbers are kept as keys."""
        target = self._stack[-1]
        target = target.items if isinstance(target, Opaque) else target
        if type(target) is not dict:
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys could have colliding hashes, which take minutes.
            if type(key) is str or (type(key) is int and key.bit_length() < 60):
                target[key] = value

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is list:
            self._stack[-1].extend(items)

    def _dict(self) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._put(items)

    def _instance(self, function: Global | None) -> None:
        args = self._since_mark()
        if function is None:
            function = args.pop(0)
        self.names.add(function.name)
        self._call(function, tuple(args))


_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_DICTS = ("collections.OrderedDict", "builtins.dict", "__builtin__.dict")
_STEPS: dict[str, Callable[[PickleParser, Any], Any]] = {
    "EMPTY_LIST": lambda p, _: p._stack.append([]),
    "EMPTY_DICT": lambda p, _: p._stack.append({}),
    "EMPTY_SET": lambda p, _: p._stack.append(Opaque("set")),
    "MARK": lambda p, _: p._marks.append(len(p._stack)),
    "TUPLE": lambda p, _: p._stack.append(tuple(p._since_mark())),
    "TUPLE1": lambda p, _: p._stack.append(tuple(p._pop(1))),
    "TUPLE2": lambda p, _: p._stack.append(tuple(p._pop(2))),
    "TUPLE3": lambda p, _: p._stack.append(tuple(p._pop(3))),
    "LIST": lambda p, _: p._stack.append(p._since_mark()),
    "FROZENSET": lambda p, _: p._stack.append(Opaque("frozenset", tuple(p._since_mark()))),
    "DICT": lambda p, _: p._dict(),
    "APPEND": lambda p, _: p._extend(p._pop(1)),
    "APPENDS": lambda p, _: p._extend(p._since_mark()),
    "ADDITEMS": lambda p, _: p._since_mark(),
    "SETITEM": lambda p, _: p._put(p._pop(2)),
    "SETITEMS": lambda p, _: p._put(p._since_mark()),
    "POP": lambda p, _: p._pop_any(),
    "POP_MARK": lambda p, _: p._since_mark(),
    "DUP": lambda p, _: p._stack.append(p._stack[-1]),
    "MEMOIZE": lambda p, _: p._memo.update({len(p._memo): p._stack[-1]}),
    "GLOBAL": lambda p, argument: p._name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda p, _: p._name(*p._pop(2)),
    "REDUCE": lambda p, _: p._call(*p._pop(2)),
    "NEWOBJ": lambda p, _: p._call(*p._pop(2)),
    "NEWOBJ_EX": lambda p, _: p._call(*p._pop(3)[:2]),
    "INST": lambda p, argument: p._instance(Global(argument.replace(" ", ".", 1))),
    "OBJ": lambda p, _: p._instance(None),
    "BUILD": lambda p, _: p._build(),
    "PERSID": lambda p, argument: p._stack.append(p._meaning.persistent(argument)),
    "BINPERSID": lambda p, _: p._stack.append(p._meaning.persistent(p._pop(1)[0])),
    **{name: (lambda p, _: p._stack.append(Opaque("?"))) for name in ("EXT1", "EXT2", "EXT4")},
}
