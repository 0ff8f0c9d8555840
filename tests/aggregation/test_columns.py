from pathlib import Path

import pytest
import torch

from fedmend.aggregation import AGGREGATORS, Updates, columns, mapped_deltas
from fedmend.errors import OutputError
from fedmend.seeds import generator

CLIENTS, SIZE = 9, 50


def updates(deltas: torch.Tensor) -> Updates:
    return Updates(
        deltas, torch.ones(CLIENTS), tuple(range(CLIENTS)), torch.arange(SIZE) % 5 > 0, torch.ones(SIZE)
    )


@pytest.mark.parametrize("name", AGGREGATORS)
def test_blocks_of_columns_and_a_mapped_file_give_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = torch.randn(CLIENTS, SIZE, generator=generator(0))
    deltas[4, 7] = torch.nan
    whole, _ = AGGREGATORS[name]()(updates(deltas), {})
    monkeypatch.setattr(columns, "BLOCK", 30)
    mapped = mapped_deltas(tmp_path / "deltas", CLIENTS, SIZE)
    mapped.copy_(deltas)
    torch.testing.assert_close(AGGREGATORS[name]()(updates(mapped), {})[0], whole)
    assert (tmp_path / "deltas").stat().st_size == 4 * CLIENTS * SIZE


def test_blocks_cover_every_column_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BLOCK", 8)
    deltas = torch.arange(15.0).view(3, 5)
    found = list(columns.blocks(deltas, torch.tensor([0, 2])))
    assert [each.stop - each.start for each, _ in found] == [4, 1]
    assert torch.equal(torch.cat([block for _, block in found], dim=1), deltas[[0, 2]])


def test_inner_products_leave_buffers_out_and_stay_finite() -> None:
    deltas = torch.tensor([[3.0, 1e300], [1e200, 5.0]], dtype=torch.float64)
    products = columns.inner_products(deltas, torch.tensor([0, 1]), torch.tensor([True, False]))
    assert products[0, 0] == 9
    assert bool(products.isfinite().all())


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
def test_inner_products_of_many_clients_in_groups(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_FEW", 2)
    monkeypatch.setattr(columns, "_GROUPS", 3)
    monkeypatch.setattr(columns, "BLOCK", 30)
    deltas = torch.randn(10, 7, generator=generator(0), dtype=kind)
    deltas[2, 3] = 1e10
    before, clients = deltas.clone(), torch.tensor([0, 2, 3, 4, 6, 7, 9])
    products = columns.inner_products(deltas, clients, torch.ones(7, dtype=torch.bool))
    torch.testing.assert_close(products, deltas[clients].double() @ deltas[clients].double().T)
    assert torch.equal(products, products.T)
    assert torch.equal(deltas, before)


def test_values_of_doubles_are_limited_in_a_copy() -> None:
    deltas = torch.tensor([[3.0, 1e300], [1e200, 5.0]], dtype=torch.float64)
    before = deltas.clone()
    columns.inner_products(deltas, torch.tensor([0, 1]), torch.tensor([True, True]))
    assert torch.equal(deltas, before)


def test_norms_do_not_overflow() -> None:
    deltas = torch.tensor([[3e38, 4e38 / 2], [0.0, 0.0], [3.0, 4.0]])
    given = Updates(deltas, torch.ones(3), (0, 1, 2), torch.ones(2, dtype=torch.bool))
    norms = columns.norms_of(given, torch.arange(3))
    assert norms.tolist() == pytest.approx([(9 + 4) ** 0.5 * 1e38, 0, 5])


def test_a_file_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't map 2 updates of 3 values"):
        mapped_deltas(tmp_path / "no" / "deltas", 2, 3)
