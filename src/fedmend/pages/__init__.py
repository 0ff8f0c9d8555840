"""One self-contained HTML page from the results of a scan, a repair and a federation, or of a comparison.

It only displays results; it computes and judges nothing.
"""

from typing import TYPE_CHECKING

from fedmend.lazy_names import on_demand
from fedmend.pages.attacker_files import evaluation_file, prune_evaluation_file
from fedmend.pages.contents import (
    AttackedRound,
    AttackEvaluation,
    PageContents,
    PlantedAttack,
    PruneEvaluation,
    Round,
)
from fedmend.pages.rendering import render, write_page
from fedmend.pages.results_folder import page_settings_file, read_folder

if TYPE_CHECKING:
    from fedmend.pages.comparison_page import render_comparison
    from fedmend.pages.comparison_view import ComparisonContents

__getattr__ = on_demand(
    globals(),
    {
        "fedmend.pages.comparison_page": ("render_comparison",),
        "fedmend.pages.comparison_view": ("ComparisonContents",),
    },
)

__all__ = [
    "AttackEvaluation",
    "AttackedRound",
    "ComparisonContents",
    "PageContents",
    "PlantedAttack",
    "PruneEvaluation",
    "Round",
    "evaluation_file",
    "page_settings_file",
    "prune_evaluation_file",
    "read_folder",
    "render",
    "render_comparison",
    "write_page",
]
