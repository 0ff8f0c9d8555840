"""What every trigger must do. A new kind is a row in ROWS."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmend.errors import DataError
from fedmend.triggers import TRIGGERS, Divisible, Drawing, Trigger, trigger_from_table

GREY, RGB = (1, 16, 20), (3, 16, 20)


@dataclass(frozen=True)
class Row:
    """A table and what its trigger can do.

    Attributes:
        fixed_shape: it is for images of one shape and refuses others.
        parts: how many attackers can divide it among themselves; 0: none.
        drawn: it is a patch.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    fixed_shape: bool = True
    parts: int = 0
    drawn: bool = False

    def make(self, shape: tuple[int, int, int]) -> Trigger:
        return trigger_from_table({"kind": self.kind, **self.settings}, shape)


ROWS = [
    Row("atoms", {"shape": "+", "color": True}, parts=3, drawn=True),
    Row("pixels", {"pattern": "9px"}, drawn=True),
    Row("box", {"color": 0.5, "chequered": True}, drawn=True),
    Row("blend", {"opacity": 0.1}),
    Row("sinusoid", {}, fixed_shape=False),
    Row("warp", {}),
    Row("generated", {"strength": 0.2}),
    Row("own_trigger:make", {"strength": 0.5}, fixed_shape=False),
]
every_trigger = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)
grey_and_rgb = pytest.mark.parametrize("shape", [GREY, RGB], ids=["grey", "rgb"])


@pytest.fixture(autouse=True)
def _in_the_examples_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own code is looked for in the current folder."""
    monkeypatch.chdir(Path(__file__).parents[2] / "examples")


def test_every_kind_has_a_row() -> None:
    assert set(TRIGGERS) <= {row.kind for row in ROWS}


@grey_and_rgb
@every_trigger
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_images_become_new_images_like_them(
    row: Row, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    copy = images.clone()
    stamped = row.make(shape).apply(images)
    assert torch.equal(images, copy)
    assert (stamped.shape, stamped.dtype, stamped.device) == (images.shape, images.dtype, images.device)
    assert float(stamped.min()) >= 0
    assert float(stamped.max()) <= 1 + 1e-3 * (dtype == torch.float16) + 1e-6
    assert all(not torch.equal(*pair) for pair in zip(stamped, images, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_trigger
def test_images_on_a_gpu_stay_there(row: Row) -> None:
    images = torch.rand(4, *RGB)
    stamped = row.make(RGB).apply(images.cuda())
    assert stamped.is_cuda
    assert torch.allclose(stamped.cpu(), row.make(RGB).apply(images), atol=1e-6)


@grey_and_rgb
@every_trigger
def test_it_is_deterministic_and_treats_each_image_alone(row: Row, shape: tuple[int, int, int]) -> None:
    images, trigger = torch.rand(4, *shape), row.make(shape)
    state = torch.get_rng_state()
    stamped = trigger.apply(images)
    assert torch.equal(trigger.apply(images), stamped)
    assert torch.equal(row.make(shape).apply(images), stamped)
    assert torch.equal(trigger.apply(images[2:3]), stamped[2:3])
    assert torch.equal(torch.get_rng_state(), state)
    assert trigger.apply(images[:0]).shape == (0, *shape)


@every_trigger
def test_workers_get_the_same_trigger(row: Row) -> None:
    images, trigger = torch.rand(2, *RGB), row.make(RGB)
    assert torch.equal(pickle.loads(pickle.dumps(trigger)).apply(images), trigger.apply(images))


@every_trigger
def test_images_of_another_shape_are_refused_where_it_has_one(row: Row) -> None:
    trigger, images = row.make(RGB), torch.rand(2, 3, 20, 20)
    if row.fixed_shape:
        with pytest.raises(DataError, match="this trigger is for images of shape"):
            trigger.apply(images)
        with pytest.raises(DataError, match="this trigger is for images of shape"):
            row.make(GREY).apply(torch.rand(2, *RGB))
    elif row.kind in TRIGGERS:
        assert trigger.apply(images).shape == images.shape


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind in TRIGGERS], ids=lambda row: row.kind)
def test_stored_bytes_are_refused(row: Row) -> None:
    with pytest.raises(DataError, match="divide bytes by 255"):
        row.make(RGB).apply(torch.zeros(2, *RGB, dtype=torch.uint8))


@grey_and_rgb
@every_trigger
def test_parts_are_triggers_and_together_the_whole(row: Row, shape: tuple[int, int, int]) -> None:
    trigger, images = row.make(shape), torch.rand(4, *shape)
    assert isinstance(trigger, Divisible) == (row.parts > 0)
    if isinstance(trigger, Divisible):
        parts, stamped = trigger.parts(), images
        assert len(parts) == row.parts
        for part in parts:
            assert not torch.equal(part.apply(images), trigger.apply(images))
            stamped = part.apply(stamped)
        assert torch.equal(stamped, trigger.apply(images))


@every_trigger
def test_a_drawn_one_is_its_patch(row: Row) -> None:
    trigger, images = row.make(RGB), torch.rand(4, *RGB)
    assert isinstance(trigger, Drawing) == row.drawn
    if isinstance(trigger, Drawing):
        assert torch.equal(trigger.patch.apply(images), trigger.apply(images))
