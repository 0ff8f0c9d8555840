import torch

from fedmend.aggregation import FedAvg, FedAvgM, State, Updates

DELTAS = torch.tensor([[1.0, -2.0, 0.4], [5.0, 2.0, 0.8]])


def updates(deltas: torch.Tensor) -> Updates:
    """Two parameters, and a buffer."""
    return Updates(deltas, torch.tensor([1, 3]), (4, 7), torch.tensor([True, True, False]))


def test_two_rounds_by_hand() -> None:
    rule, state = FedAvgM(momentum=0.5), State()
    first, state = rule(updates(DELTAS), state)
    torch.testing.assert_close(first, torch.tensor([4.0, 1.0, 0.7]))
    second, state = rule(updates(DELTAS / 2), state)
    torch.testing.assert_close(
        second, torch.tensor([0.5 * 4 + 2, 0.5 * 1 + 0.5, 0.35])
    )  # the buffer: the mean
    torch.testing.assert_close(state["velocity"], torch.tensor([4.0, 1.0, 0.0]))


def test_without_momentum_it_is_fedavg() -> None:
    rule, state = FedAvgM(momentum=0.0), State()
    for factor in (1, -3, 2):
        delta, state = rule(updates(factor * DELTAS), state)
        assert torch.equal(delta, FedAvg()(updates(factor * DELTAS), {})[0])
