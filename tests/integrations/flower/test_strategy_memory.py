"""What a strategy remembers is copied and put back; everything else is left alone."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
)
from stand_ins import arrays_of, net

from fedmend.integrations.flower.strategy_memory import StrategyMemory, forget_global_arrays


class Remembering(FedAvg):
    """A user's own strategy, with memory of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()  # can't be copied
        self.spent: dict[int, threading.Lock] = {1: self.lock}
        self.losses = [1.0]
        self.recent = deque([np.zeros(2)], maxlen=3)
        self.mean = torch.zeros(2)
        self.best: ArrayRecord | None = arrays_of(net())


def test_data_is_put_back_and_the_rest_left_alone() -> None:
    strategy = Remembering()
    memory = StrategyMemory.of(strategy)
    strategy.losses.append(2.0)
    strategy.recent[0] += 1
    strategy.mean += 1
    strategy.best = None
    strategy.spent[2] = strategy.lock
    strategy.began_later = np.ones(3)  # type: ignore[attr-defined]
    for _ in range(2):  # a memory can be put back more than once
        memory.restore()
        assert strategy.losses == [1.0]
        assert float(strategy.recent[0].sum()) == 0
        assert torch.equal(strategy.mean, torch.zeros(2))
        assert strategy.best is not None
        assert not hasattr(strategy, "began_later")
        assert list(strategy.spent) == [1, 2]
        strategy.losses.append(3.0)


def test_wrapped_strategies_are_remembered_too() -> None:
    inner = FedAdam()
    outer = DifferentialPrivacyServerSideFixedClipping(inner, 0.1, 1.0, 2)
    memory = StrategyMemory.of(outer)
    inner.m_t = {"a": np.ones(1)}
    outer.clipping_norm = 5.0
    outer.current_arrays = arrays_of(net())
    forget_global_arrays(outer)
    assert outer.current_arrays is None
    memory.restore()
    assert inner.m_t is None
    assert outer.clipping_norm == 1.0
    assert outer.strategy is inner
