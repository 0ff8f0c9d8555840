import pytest
import torch

from fedmend.errors import is_out_of_memory


def test_torch_on_a_cpu_without_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_other_types(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), ValueError("DefaultCPUAllocator")])
def test_other_errors_are_not_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)
