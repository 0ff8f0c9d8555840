"""Finds a model's weights in a file, whatever prefixes their names have and whatever lies beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass

from torch import Tensor

from fedmend.checkpoints.file_contents import FileContents
from fedmend.checkpoints.stored_tensors import Entry, StoredTensor
from fedmend.checkpoints.wording import listed, shown
from fedmend.errors import CheckpointError

WRAPPERS = frozenset({"module", "_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What wrappers put into names: data-parallel training, Opacus, torch.compile, FSDP, activation checkpointing."""

_MOST_CANDIDATES = 20


@dataclass(frozen=True)
class Candidate:
    """Tensors in a file that may be the model's.

    Attributes:
        key: the full name of the dict or list that they are in.
        prefix: of their names in it.
        tensors: by the model's names, where it has them.
        unknown: full names of tensors among them that the model lacks.
    """

    key: str
    prefix: str
    tensors: Mapping[str, Entry]
    unknown: Sequence[str] = ()


def is_counter(name: str) -> bool:
    """Whether this is BatchNorm's counter of batches, which only training uses."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def same_shape(name: str, own: Tensor, given: Entry) -> bool:
    """Whether an entry has the shape of the model's; a counter needs only to be one number."""
    if not isinstance(given, StoredTensor):
        return False
    return given.shape == tuple(own.shape) or (is_counter(name) and given.shape == (1,))


def find_weights(
    own: Mapping[str, Tensor], parameters: Sequence[str], contents: FileContents, strip_prefix: str | None
) -> Candidate:
    """The tensors in a file that are the model's.

    Args:
        own: the model's state.
        parameters: the names of those that are parameters rather than buffers.
        contents: the file's.
        strip_prefix: names must start with it, unless they are the model's as they are; None to find it.

    Returns:
        The only candidate that has half of the model's tensors or more, in their shapes; otherwise the one that
        comes nearest, for a message.

    Raises:
        CheckpointError: several candidates fit, or there is none.
    """
    named = _by_names(own, parameters, contents)
    if strip_prefix is not None and not (named and all(each.prefix == "" for each in named)):
        wanted = strip_prefix if strip_prefix.endswith(".") else f"{strip_prefix}."
        named = [each for each in named if each.prefix == wanted or each.prefix.startswith(wanted)]
        if not named:
            raise CheckpointError(
                f"its names don't start with {shown(wanted)} followed by the model's; it has "
                f"{listed(contents.entries) or 'no names'}"
            )
    ordered = [] if strip_prefix is not None else _by_order(own, parameters, contents)
    candidates = _without_twins([*named, *ordered])
    needed = [name for name in own if not is_counter(name)]

    def score(candidate: Candidate) -> int:
        found = candidate.tensors
        return sum(name in found and same_shape(name, own[name], found[name]) for name in needed)

    fitting = [each for each in candidates if 2 * score(each) >= len(needed)]
    if len(fitting) > 1:
        raise _several(fitting)
    if fitting:
        return fitting[0]
    if candidates:
        return max(candidates, key=lambda each: (score(each), len(each.tensors)))
    return _nearest(own, contents)


def _by_names(
    own: Mapping[str, Tensor], parameters: Sequence[str], contents: FileContents
) -> list[Candidate]:
    """Candidates by name; the model's own prefix may be missing in the file."""
    names = {name: _bare(name) for name in own}
    if len(set(names.values())) < len(names):
        names = {name: name for name in own}
    anchors = [*parameters] or [name for name in own if not is_counter(name)]
    while anchors:
        anchor = max((names[name] for name in anchors), key=lambda name: (name.count("."), len(name)))
        found = _with_names(names, anchor, contents)
        if found:
            return found
        first = {name.partition(".")[0] for name in names.values()}
        if len(first) > 1 or not all("." in name for name in names.values()):
            return []
        names = {name: bare.partition(".")[2] for name, bare in names.items()}
    return []


def _with_names(names: Mapping[str, str], anchor: str, contents: FileContents) -> list[Candidate]:
    """A candidate for each prefix under which the file has the name ``anchor``."""
    prefixes, parts = {}, anchor.split(".")
    for full in contents.entries:
        prefix = _prefix(full.split("."), parts)
        if prefix is not None:
            prefixes[prefix] = contents.keys[full]
    _limit(prefixes)
    return [_candidate(names, contents, prefix, key) for prefix, key in prefixes.items()]


def _prefix(given: list[str], anchor: list[str]) -> str | None:
    """What stands before the name ``anchor`` in ``given``, which may have wrappers within; None if it isn't there."""
    end = len(given)
    for part in reversed(anchor):
        while end and given[end - 1] != part and given[end - 1] in WRAPPERS:
            end -= 1
        if not end or given[end - 1] != part:
            return None
        end -= 1
    return "".join(f"{part}." for part in given[:end])


def _candidate(names: Mapping[str, str], contents: FileContents, prefix: str, key: str) -> Candidate:
    key = key if not key or prefix.startswith(f"{key}.") else prefix.rstrip(".")
    group = {full[len(prefix) :]: full for full in contents.entries if full.startswith(prefix)}
    bare = group if set(names.values()) <= set(group) else {_bare(name): full for name, full in group.items()}
    if len(bare) < len(group):
        raise CheckpointError(
            f"some of its names under {shown(prefix)} differ only in prefixes such as 'module.'; save one of them"
        )
    tensors = {name: contents.entries[bare[short]] for name, short in names.items() if short in bare}
    known = set(names.values())
    used = {contents.keys[full] for short, full in bare.items() if short in known}
    unknown = [full for short, full in bare.items() if short not in known and contents.keys[full] in used]
    return Candidate(key, prefix[len(key) + 1 :] if key else prefix, tensors, unknown)


def _by_order(
    own: Mapping[str, Tensor], parameters: Sequence[str], contents: FileContents
) -> list[Candidate]:
    """Candidates without names: lists in the order of the model's state, with or without counters and buffers.

    Or in the order of the names, which is what safetensors files give back.
    """
    orders = ([*own], [name for name in own if not is_counter(name)], [*parameters], sorted(own))
    found = []
    for key, given in contents.lists.items():
        for order in orders:
            if len(order) == len(given) and all(
                same_shape(name, own[name], each) for name, each in zip(order, given, strict=True)
            ):
                found.append(Candidate(key, "", dict(zip(order, given, strict=True))))
                break
        _limit(found)
    return found


def _limit(found: Sized) -> None:
    if len(found) > _MOST_CANDIDATES:
        raise CheckpointError(
            f"it holds more than {_MOST_CANDIDATES} sets of weights that may be the model's; save one alone"
        )


def _bare(name: str) -> str:
    parts = name.split(".")
    return ".".join([part for part in parts[:-1] if part not in WRAPPERS] + parts[-1:])


def _without_twins(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates that aren't the same tensors under other names."""
    kept: list[Candidate] = []
    for each in candidates:
        if not any(each.tensors == other.tensors for other in kept):
            kept.append(each)
    return kept


def _several(candidates: list[Candidate]) -> CheckpointError:
    keys = {each.key: None for each in candidates}
    if len(keys) == len(candidates):
        option, choices = "--key", [*keys]
    else:
        option, choices = (
            "--strip-prefix",
            [f"{each.key}: {each.prefix}" if len(keys) > 1 else each.prefix for each in candidates],
        )
    return CheckpointError(
        f"it holds several sets of weights that fit the model, such as raw and averaged ones: {listed(choices, 6)}; "
        f"choose one with {option}"
    )


def _nearest(own: Mapping[str, Tensor], contents: FileContents) -> Candidate:
    """The file's only state dict, for a message about its names."""
    states = contents.states()
    if len(states) == 1:
        ((key, state),) = states.items()
        tensors = {name: entry for name, entry in state.items() if name in own}
        return Candidate(key, "", tensors, [name for name in state if name not in own])
    if contents.lists and not states:
        key, given = max(contents.lists.items(), key=lambda item: len(item[1]))
        raise CheckpointError(_order_differs(own, given))
    if not states:
        raise CheckpointError("it holds no weights")
    raise CheckpointError(
        f"the checkpoint is of another architecture: none of its state dicts, {listed(states)}, has the names of the "
        f"model, such as {shown(next(iter(own), ''))}; name the architecture it was trained with"
    )


def _order_differs(own: Mapping[str, Tensor], given: Sequence[StoredTensor]) -> str:
    names = [*own] if len(given) == len(own) else [name for name in own if not is_counter(name)]
    if len(given) != len(names):
        return f"the checkpoint is of another architecture: it holds {len(given)} arrays, the model has {len(own)}"
    name, entry = next(
        (name, entry)
        for name, entry in zip(names, given, strict=True)
        if not same_shape(name, own[name], entry)
    )
    return (
        f"its arrays are in another order or of another architecture: where the model has {shown(name)} of shape "
        f"{tuple(own[name].shape)}, it has an array of shape {shown(entry.shape)}"
    )
