"""NumPy's archives, whose entries may say one thing and hold another."""

import io
import zipfile

import numpy as np
import pytest
import torch

from fedmend.checkpoints.npz_files import read_arrays
from fedmend.checkpoints.stored_tensors import StoredTensor


def archive(**entries: bytes) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return zipfile.ZipFile(buffer)


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_arrays_come_back_as_they_were() -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        "c": np.array([True, False]),
        "d": np.array(7),
    }
    found = read_arrays(archive(**{name: saved(array) for name, array in arrays.items()}))
    assert isinstance(found, dict)
    for name, array in arrays.items():
        stored = found[name]
        assert isinstance(stored, StoredTensor)
        assert torch.equal(stored.load(), torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)))


def test_numbered_arrays_are_a_list_in_their_order() -> None:
    found = read_arrays(archive(arr_1=saved(np.ones(1)), arr_0=saved(np.zeros(2)), arr_2=saved(np.ones(3))))
    assert isinstance(found, list)
    assert [each.shape for each in found if isinstance(each, StoredTensor)] == [(2,), (1,), (3,)]
    assert isinstance(read_arrays(archive(arr_0=saved(np.zeros(2)), arr_2=saved(np.ones(3)))), dict)


@pytest.mark.parametrize("change", [lambda content: content + b"x", lambda content: content[:-1]])
def test_an_entry_of_another_size_than_its_header_says_is_damaged(change: object) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match="larger or smaller than its entry"):
        read_arrays(archive(a=change(saved(np.zeros(3)))))


def test_a_byte_that_is_no_boolean_is_true() -> None:
    found = read_arrays(archive(a=saved(np.zeros(2, np.bool_))[:-2] + b"\x00\x02"))
    assert isinstance(found, dict)
    assert isinstance(found["a"], StoredTensor)
    assert found["a"].load().view(torch.uint8).tolist() == [0, 1]
