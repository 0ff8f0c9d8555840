"""``fedmend simulate --engine``."""

from __future__ import annotations

import pytest

from fedmend.cli import simulate_command
from fedmend.errors import ConfigError
from fedmend.federation import simulate


def test_the_default_is_fedmends_own() -> None:
    assert simulate_command.on_engine("fedmend") is simulate


def test_without_flower_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_command, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fedmend\[flower\]'"):
        simulate_command.on_engine("flower")


def test_flowers() -> None:
    pytest.importorskip("flwr", reason="needs fedmend[flower]")
    assert simulate_command.on_engine("flower").__name__ == "simulate_on_flower"
