"""A matrix of updates, (clients, P), block by block of its columns, so that no rule needs a second copy of it.

The matrix may be larger than memory: see :func:`mapped_deltas`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from fedmend.aggregation.base import Updates
from fedmend.errors import DataError, OutputError

BLOCK = 2**23
"""Values of a block: 32 MiB of float32."""

_GROUPS, _FEW = 8, 64  # of clients, whose inner products are computed at once

_LARGEST = 1e150  # products of two such values, summed over all parameters, are still finite in float64


def mapped_deltas(path: Path | str, clients: int, size: int) -> Tensor:
    """A matrix for deltas that lies in a file: row by row it can be filled and read without being in memory.

    Args:
        path: of the file, which is made, or overwritten; 4 bytes for each value. Delete it afterwards.
        clients: number of rows.
        size: number of columns, P.

    Returns:
        float32 (clients, P), 0 where the file is new.

    Raises:
        OutputError: the file can't be made.
    """
    try:
        Path(path).touch()
        flat = torch.from_file(str(path), shared=True, size=clients * size, dtype=torch.float32)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"can't map {clients} updates of {size:,} values to {path}: {error}") from error
    return flat.view(clients, size)


def finite_clients(updates: Updates) -> Tensor:
    """The places, int64 (n,), of the clients whose delta holds neither NaN nor infinite values.

    Raises:
        DataError: there is none.
    """
    finite = [place for place, delta in enumerate(updates.deltas) if bool(delta.isfinite().all())]
    if not finite:
        raise DataError("no client's update is finite; try a smaller [training] lr")
    return torch.tensor(finite, device=updates.deltas.device)


def blocks(deltas: Tensor, clients: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Columns of some clients' deltas, block by block.

    Args:
        deltas: (clients, P).
        clients: places of the rows, int64 (n,).

    Yields:
        Which columns, and their values (n, columns).
    """
    size = deltas.shape[1]
    step = max(1, BLOCK // len(clients))
    every = len(clients) == len(deltas)
    for first in range(0, size, step):
        columns = slice(first, min(first + step, size))
        block = deltas[:, columns]
        yield columns, block if every else block[clients]


def column_wise(deltas: Tensor, clients: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """A new vector, (P,), of ``formula``, which turns columns (n, m) of the clients' deltas into their values (m,)."""
    result = torch.empty(deltas.shape[1], dtype=deltas.dtype, device=deltas.device)
    for columns, block in blocks(deltas, clients):
        result[columns] = formula(block)
    return result


def weighted_sum(deltas: Tensor, clients: Tensor, weights: Tensor) -> Tensor:
    """``sum(weights_i * delta_i)``, (P,), over ``clients`` (n,), with weights (n,)."""
    factors = weights.to(deltas)
    return column_wise(deltas, clients, lambda block: factors @ block)


def inner_products(deltas: Tensor, clients: Tensor, parameters: Tensor) -> Tensor:
    """The inner products of some clients' deltas over parameters, buffers left out.

    Args:
        deltas: finite (clients, P). Values beyond 1e150 count as 1e150, so that the result is finite.
        clients: places of the rows, int64 (n,).
        parameters: bool (P,).

    Returns:
        float64 (n, n).
    """
    count, group = len(clients), max(_FEW, -(-len(clients) // _GROUPS))
    products = torch.zeros(count, count, dtype=torch.float64, device=deltas.device)
    for columns, block in blocks(deltas, clients):
        wide = only(block, parameters[columns]).to(torch.float64, copy=True).clamp_(-_LARGEST, _LARGEST)
        for first in range(0, count, group):  # the upper triangle; the lower one is the same
            rows = slice(first, first + group)
            products[rows, first:].addmm_(wide[rows], wide[first:].T)
    return products.triu() + products.triu(1).T


def only(values: Tensor, chosen: Tensor) -> Tensor:
    """The chosen columns, bool (m,), of values (..., m), which are not copied if all are chosen."""
    return values if bool(chosen.all()) else values[..., chosen.to(values.device)]


def squared_distances(products: Tensor) -> Tensor:
    """The squared Euclidean distances, float64 (n, n) with 0 on the diagonal, of vectors with these inner products."""
    squares = products.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * products).clamp_(min=0)
    return distances.fill_diagonal_(0)


def norms_of(updates: Updates, clients: Tensor) -> Tensor:
    """The L2 norms of some clients' deltas over parameters, float64 (n,); infinite only beyond 1.7e308."""
    parameters = updates.parameters
    return torch.stack(
        [_norm(only(updates.deltas[place], parameters).double()) for place in clients.tolist()]
    )


def _norm(values: Tensor) -> Tensor:
    """The L2 norm, without the overflow of squares."""
    if not len(values):
        return values.sum()
    largest = values.abs().max()
    norm: Tensor = largest * torch.linalg.vector_norm(values / largest.clamp(min=1e-300))
    return norm


def subset(updates: Updates, clients: Tensor) -> Updates:
    """The updates of some clients only, by their places (n,); those of all of them are not copied."""
    if len(clients) == len(updates.client_ids):
        return updates
    return Updates(
        updates.deltas[clients],
        updates.num_examples[clients.to(updates.num_examples.device)],
        tuple(updates.client_ids[place] for place in clients.tolist()),
        updates.parameters,
        updates.server_delta,
    )
