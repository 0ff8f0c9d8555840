from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmend.pages import PageContents, PruneEvaluation, render
from fedmend.repairs.repair_report import PruningDetails

sys.path.insert(0, str(Path(__file__).parent))  # for the two files below

from html_page import HtmlPage
from made_results import Made


@pytest.fixture
def made() -> type[Made]:
    return Made


@pytest.fixture
def shown() -> Callable[..., HtmlPage]:
    """Render contents, or parts of contents by name, and parse the page."""

    def show(contents: PageContents | None = None, **parts: Any) -> HtmlPage:
        return HtmlPage(render(contents or PageContents("x", **parts)))

    return show


@pytest.fixture
def pruned_page(made: type[Made], shown: Callable[..., HtmlPage]) -> Callable[..., HtmlPage]:
    """Render a repair by pruning from its details, an evaluation and other parts."""

    def show(details: PruningDetails, measured: PruneEvaluation | None = None, **parts: Any) -> HtmlPage:
        return shown(**({"repair": made.pruned(details)} | parts), prune_evaluation=measured)

    return show
