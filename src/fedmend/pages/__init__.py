"""One self-contained HTML page from the results of a scan, a repair and a federation.

It renders results and computes nothing.
"""

from fedmend.pages.contents import AttackEvaluation, PruneEvaluation, ReportContents
from fedmend.pages.render import render, write_report
from fedmend.pages.results_folder import (
    read_folder,
    write_evaluation,
    write_page_settings,
    write_prune_evaluation,
)

__all__ = [
    "AttackEvaluation",
    "PruneEvaluation",
    "ReportContents",
    "read_folder",
    "render",
    "write_evaluation",
    "write_page_settings",
    "write_prune_evaluation",
    "write_report",
]
