"""What a model file holds: tensors by dotted name, and the dicts and lists that they are in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fedmend.checkpoints.pickle_parsing import Opaque
from fedmend.checkpoints.stored_tensors import Entry, StoredTensor, UnusableTensor
from fedmend.checkpoints.wording import listed, shown
from fedmend.errors import CheckpointError

_DEEPEST, _LONGEST_NAME = 12, 500
_MOST_CONTAINERS = _MOST_TENSORS = 100_000


@dataclass(frozen=True)
class FileContents:
    """The tensors of a file, wherever they are in it.

    Attributes:
        entries: tensors by full name: the keys of all dicts on the way to it, joined by dots.
        keys: of each full name, the full name of the dict that the tensor is in; "" is the file's own.
        lists: lists of tensors by full name.
        objects: other objects by full name.
        numbered: full names of dicts that have a number on their way, such as an optimizer's state.
        size: the file's size in bytes.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[StoredTensor]] = field(default_factory=dict)
    objects: dict[str, Opaque] = field(default_factory=dict)
    numbered: set[str] = field(default_factory=set)
    size: int = 0

    def states(self) -> dict[str, dict[str, Entry]]:
        """The state dicts: dicts that hold tensors themselves, by full name."""
        found: dict[str, dict[str, Entry]] = {}
        for name, entry in self.entries.items():
            key = self.keys[name]
            if key not in self.numbered:
                found.setdefault(key, {})[name[len(key) + 1 :] if key else name] = entry
        return found

    def under(self, key: str | None) -> FileContents:
        """What is under a key; all if ``key`` is None, or if the file is a state dict itself and has no such key.

        Raises:
            CheckpointError: there is no such key.
        """
        if key is None:
            return self
        start = f"{key}."
        entries = {n[len(start) :]: entry for n, entry in self.entries.items() if n.startswith(start)}
        lists = {n[len(start) :]: found for n, found in self.lists.items() if f"{n}.".startswith(start)}
        states = self.states()
        if not entries and not lists and "" in states:
            return self
        if not entries and not lists:
            raise CheckpointError(
                f"it holds no weights under the key {shown(key)}; it has {listed([*states, *self.lists]) or 'none'}"
            )
        keys = {name: self.keys[start + name][len(start) :] for name in entries}
        numbered = {name[len(start) :] for name in self.numbered if name.startswith(start)}
        return FileContents(entries, keys, lists, {}, numbered, self.size)


def from_tensors(tensors: Mapping[str, Tensor]) -> FileContents:
    """The contents of a state dict in memory."""

    def entry(tensor: Tensor) -> StoredTensor:
        return StoredTensor(tensor.dtype, tuple(tensor.shape), (id(tensor),), tensor.detach)

    return FileContents({name: entry(tensor) for name, tensor in tensors.items()}, dict.fromkeys(tensors, ""))


def from_value(value: object, size: int) -> FileContents:
    """The contents of a file whose value is this.

    Raises:
        CheckpointError: it is too large, or two tensors have the same full name; the message continues "FILE ...".
    """
    contents = FileContents(size=size)
    waiting: deque[tuple[str, object, int]] = deque([("", value, 0)])
    visited = 0
    while waiting:
        key, found, depth = waiting.popleft()
        if isinstance(found, Opaque):
            contents.objects[key] = found
            found = found.items
        if isinstance(found, list | tuple):
            tensors = [each for each in found if isinstance(each, StoredTensor)]
            if tensors and len(tensors) == len(found):
                contents.lists[key] = tensors
        visited += 1 + (len(found) if isinstance(found, dict | list | tuple) else 0) // 100
        if visited + len(waiting) > _MOST_CONTAINERS:
            raise CheckpointError("holds more values than any model file; save the weights alone")
        for name, child, is_number in _children(found):
            if len(key) + len(name) >= _LONGEST_NAME:
                if isinstance(child, StoredTensor | UnusableTensor):
                    raise CheckpointError(
                        f"has a tensor whose name is longer than {_LONGEST_NAME} characters"
                    )
                continue
            full = f"{key}.{name}" if key else name
            if isinstance(child, StoredTensor | UnusableTensor):
                _add(contents, full, key, child)
            elif isinstance(child, dict | list | tuple | Opaque) and depth < _DEEPEST:
                if is_number or key in contents.numbered:
                    contents.numbered.add(full)
                waiting.append((full, child, depth + 1))
    return contents


def _children(value: object) -> Iterator[tuple[str, object, bool]]:
    if isinstance(value, dict):
        yield from ((str(key), child, type(key) is int) for key, child in value.items())
    elif isinstance(value, list | tuple):
        wanted = (
            child for child in value if isinstance(child, dict | list | tuple | Opaque | UnusableTensor)
        )
        yield from ((str(number), child, True) for number, child in enumerate(wanted))


def _add(contents: FileContents, full: str, key: str, entry: Entry) -> None:
    if full in contents.entries:
        raise CheckpointError(f"has two tensors called {shown(full)}")
    if len(contents.entries) >= _MOST_TENSORS:
        raise CheckpointError(f"holds more than {_MOST_TENSORS} tensors; save the weights alone")
    contents.entries[full] = entry
    contents.keys[full] = key
