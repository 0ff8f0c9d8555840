from collections.abc import Callable

import pytest
import torch
from guarded_nets import Net, net
from torch import Tensor, nn

from fedmend.guard.weights import Fault, digest, model_with, received

STATE = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


def test_the_digest_is_of_what_the_weights_are() -> None:
    expected = digest(STATE)
    assert digest({name: STATE[name].clone() for name in reversed(STATE)}) == expected
    transposed = STATE["a"].t().contiguous().t()
    assert digest(STATE | {"a": transposed}) == expected
    assert digest({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s | {"a": s["a"] + torch.tensor([[0, 0, 0], [0, 0, 1e-6]])},
        lambda s: s | {"a": s["a"].reshape(3, 2)},
        lambda s: s | {"a": s["a"].double()},
        lambda s: {"b": s["a"], "n": s["n"]},
        lambda s: {"a": s["a"]},
        lambda s: s | {"a": -s["a"]},
    ],
    ids=["value", "shape", "type", "name", "missing", "minus-zero"],
)
def test_whatever_changes_changes_the_digest(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    assert digest(change(STATE)) != digest(STATE)


def test_what_is_received_is_a_copy() -> None:
    model = net(seed=1)
    for given in (model, model.state_dict(), dict(model.state_dict(keep_vars=True))):
        state = received(given, Net())
        assert not isinstance(state, Fault)
        assert list(state) == list(Net().state_dict())
        assert digest(state) == digest(model.state_dict())
        assert not any(isinstance(value, nn.Parameter) for value in state.values())
        state["head.bias"].fill_(5)
        assert float(model.head.bias.detach().max()) == 0


def test_a_subclass_of_tensor_is_no_weight() -> None:
    class Own(Tensor):
        pass

    state = net().state_dict()
    state["mark"] = state["mark"].as_subclass(Own)
    fault = received(state, Net())
    assert fault == Fault("wrong shape", "Expected mark as torch.float32 (); got a Own.")


def test_names_that_could_rewrite_a_terminal_are_escaped() -> None:
    fault = received(net().state_dict() | {"\x1b[2J": torch.zeros(1)}, Net())
    assert isinstance(fault, Fault)
    assert "\x1b" not in fault.reason


def test_a_model_with_weights_is_a_copy_in_eval_mode() -> None:
    template = Net().train()
    made = model_with(net(2.0, seed=3).state_dict(), template)
    assert not made.training
    assert template.training
    assert (float(made.get_buffer("mark")), float(template.get_buffer("mark"))) == (2, 0)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight


def test_entries_that_share_a_weight_hold_the_one_that_is_judged() -> None:
    """Else the other would be released without ever having been looked at."""
    sent = {name: value.clone() for name, value in Tied().state_dict().items()}
    sent["first.weight"] = torch.full((2, 2), 7.0)
    got = received(sent, Tied())
    assert not isinstance(got, Fault)
    assert torch.equal(got["first.weight"], sent["second.weight"])
    assert torch.equal(got["first.weight"], model_with(sent, Tied()).state_dict()["first.weight"])
    assert got["first.weight"].data_ptr() != got["second.weight"].data_ptr()
