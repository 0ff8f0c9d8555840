"""One self-contained HTML page from the results of a scan, a repair and a federation.

It only displays results; it computes and judges nothing.
"""

from fedmend.pages.attacker_files import write_evaluation, write_prune_evaluation
from fedmend.pages.contents import (
    AttackedRound,
    AttackEvaluation,
    PageContents,
    PlantedAttack,
    PruneEvaluation,
    Round,
)
from fedmend.pages.rendering import render, write_page
from fedmend.pages.results_folder import read_folder, write_page_settings

__all__ = [
    "AttackEvaluation",
    "AttackedRound",
    "PageContents",
    "PlantedAttack",
    "PruneEvaluation",
    "Round",
    "read_folder",
    "render",
    "write_evaluation",
    "write_page",
    "write_page_settings",
    "write_prune_evaluation",
]
