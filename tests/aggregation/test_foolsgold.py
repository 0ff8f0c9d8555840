import math

import pytest
import torch

from fedmend.aggregation import FoolsGold, State, Updates
from fedmend.aggregation.foolsgold import foolsgold_weights


def updates(deltas: torch.Tensor, ids: tuple[int, ...]) -> Updates:
    return Updates(deltas, torch.ones(len(ids)), ids, torch.ones(deltas.shape[1], dtype=torch.bool))


def test_weights_by_hand() -> None:
    # Cosines: 0 and 1 are at 45 degrees, 2 is orthogonal to 0 and at 45 degrees to 1; 3 is opposite to 0.
    # Nobody is pardoned, since the largest cosine of 0, 1 and 2 is sqrt(1/2); of 3 it is 0, and weight 1 is the most.
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    low = 1 - math.sqrt(0.5)
    expected = max(0.0, math.log(low / (1 - low)) + 0.5)
    weights = foolsgold_weights(vectors @ vectors.T)
    assert weights.tolist() == pytest.approx([expected, expected, expected, 1])
    assert foolsgold_weights(vectors @ vectors.T, 0.5).tolist() == pytest.approx(
        [0.5 * math.log(low / (1 - low)) + 0.5] * 3 + [1]
    )


def test_who_resembles_sybils_less_than_they_do_each_other_is_pardoned() -> None:
    # 0 and 1 are the same; 2 has a cosine of 0.6 with both, which pardoning scales by 0.6 / 1.
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    weights = foolsgold_weights(vectors @ vectors.T)
    assert weights.tolist() == pytest.approx([0, 0, 1])
    # Its own weight before the logit: 1 - 0.36, which is the largest, so 1.


def test_who_is_unlike_everybody_keeps_its_weight() -> None:
    # Pardoning divides its largest cosine by a positive one; were that negative, its cosines would turn into likeness.
    cosines = [[1.0, 0.1, -0.3], [0.1, 1.0, -0.3], [-0.3, -0.3, 1.0]]
    assert foolsgold_weights(torch.tensor(cosines, dtype=torch.float64)).tolist() == pytest.approx([1, 1, 1])


def test_sybils_are_left_out_and_honest_clients_averaged() -> None:
    deltas = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, 5.0, 9.0], [5.0, 5.0, 9.0]])
    delta, _ = FoolsGold()(updates(deltas, (4, 8, 1, 2)), {})
    torch.testing.assert_close(delta, torch.tensor([0.5, 0.5, 0.0]))


def test_it_remembers_what_clients_sent_in_earlier_rounds() -> None:
    rule, state = FoolsGold(), State()
    _, state = rule(updates(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), (4, 8)), state)
    _, state = rule(updates(torch.tensor([[1.0, 1.0], [2.0, 0.0]]), (8, 5)), state)
    assert state["clients"].tolist() == [4, 8, 5]
    assert state["history"].tolist() == [[1, 0], [1, 4], [2, 0]]


def test_it_can_compare_and_remember_the_last_parameters_alone() -> None:
    """Buffers are not among them; 4 and 8 are opposites in the first two columns and alike in the others."""
    deltas = torch.tensor(
        [[5.0, -5.0, 2.0, 1.0, 7.0], [-5.0, 5.0, 2.0, 1.0, 8.0], [3.0, 3.0, -1.0, 2.0, 9.0]]
    )
    parameters = torch.tensor([True, True, True, True, False])
    sent = Updates(deltas, torch.ones(3), (4, 8, 6), parameters)
    rule = FoolsGold(last_parameters=2)
    delta, state = rule(sent, {})
    assert delta.tolist() == [3, 3, -1, 2, 8]
    assert FoolsGold()(sent, {})[0].tolist() != delta.tolist()
    _, state = rule(sent, state)
    assert state["history"].tolist() == [[4, 2], [4, 2], [-2, 4]]
    assert rule(sent, state)[1]["clients"].tolist() == [4, 8, 6]


def test_more_parameters_than_there_are_is_all_of_them() -> None:
    deltas = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    sent = updates(deltas, (0, 1, 2, 3))
    assert torch.equal(FoolsGold(last_parameters=9)(sent, {})[0], FoolsGold()(sent, {})[0])


def test_a_round_of_strangers_depends_on_this_round_only() -> None:
    deltas = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    fresh, state = FoolsGold()(updates(deltas, (0, 1, 2, 3)), {})
    assert torch.equal(FoolsGold()(updates(deltas, (5, 6, 7, 8)), state)[0], fresh)
    assert not torch.equal(FoolsGold()(updates(deltas.flip(0), (0, 1, 2, 3)), state)[0], fresh)
