import pytest
import torch
from torch import nn

from fedmend.errors import ModelError
from fedmend.parameters import flatten, float_names, integer_median, parameter_mask, unflatten


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_vector_covers_parameters_and_float_buffers_in_order() -> None:
    state = net().state_dict()
    assert float_names(state) == [
        *("0.weight", "0.bias", "1.weight", "1.bias"),
        *("1.running_mean", "1.running_var"),
    ]
    vector = flatten(state)
    assert vector.shape == (18 + 2 + 4 * 2,)
    assert torch.equal(vector[:18], state["0.weight"].flatten())
    assert torch.equal(vector[-2:], state["1.running_var"])


def test_round_trip_keeps_values_types_and_integers() -> None:
    state = net().half().state_dict()
    state["1.num_batches_tracked"] += 7
    back = unflatten(flatten(state), state)
    assert list(back) == list(state)
    for name, value in state.items():
        assert back[name].dtype == value.dtype
        assert torch.equal(back[name], value)
        assert back[name].untyped_storage().data_ptr() != value.untyped_storage().data_ptr()


def test_results_share_no_memory_with_the_vector() -> None:
    state = net().state_dict()
    vector = flatten(state)
    before = state["0.weight"].clone()
    back = unflatten(vector, state)
    vector.zero_()
    assert torch.equal(back["0.weight"], before)
    assert torch.equal(state["0.weight"], before)


def test_doubles_stay_doubles() -> None:
    assert flatten({"a": torch.zeros(2), "b": torch.zeros(1, dtype=torch.float64)}).dtype == torch.float64
    assert flatten({"a": torch.zeros(2, dtype=torch.float16)}).dtype == torch.float32


def test_state_without_floats() -> None:
    state = {"n": torch.tensor([3])}
    assert flatten(state).shape == (0,)
    assert torch.equal(unflatten(torch.empty(0), state)["n"], state["n"])


def test_mask_is_aligned_with_the_vector_and_ignores_freezing() -> None:
    model = net().requires_grad_(False)
    mask = parameter_mask(model)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [True] * 24 + [False] * 4


def test_mask_counts_tied_parameters_under_both_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert parameter_mask(model).tolist() == [True] * 8
    assert flatten(model.state_dict()).shape == (8,)


@pytest.mark.parametrize("shape", [(27,), (29,), (28, 1), ()])
def test_wrong_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="28 values"):
        unflatten(torch.zeros(shape), net().state_dict())


@pytest.mark.parametrize("value", [torch.zeros(1, dtype=torch.complex64), "text"])
def test_what_a_vector_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ModelError, match="real tensors"):
        flatten({"a": value})  # type: ignore[dict-item]


def test_integers_take_the_median_so_that_one_participant_cannot_set_them() -> None:
    sent = (3, 2**63 - 1, 4)
    states = [{"w": torch.ones(1), "n": torch.tensor(n), "b": torch.tensor([n > 4])} for n in sent]
    merged = integer_median(states)
    assert set(merged) == {"n", "b"}
    assert merged["n"].item() == 4
    assert merged["b"].item() is False
    assert states[0]["n"].item() == 3
    assert integer_median(states[:2])["n"].item() == 3


def test_integers_of_unlike_states_are_refused() -> None:
    with pytest.raises(ModelError, match="one or more"):
        integer_median([])
    with pytest.raises(ModelError, match="'n'"):
        integer_median([{"n": torch.tensor(1)}, {}])
