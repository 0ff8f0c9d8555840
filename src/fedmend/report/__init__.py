"""One self-contained HTML page from the results of a scan, a repair and a federation.

It renders results and computes nothing.
"""

from fedmend.report.contents import AttackEvaluation, PruneEvaluation, ReportContents
from fedmend.report.folder import (
    read_folder,
    write_evaluation,
    write_page_settings,
    write_prune_evaluation,
)
from fedmend.report.render import render, write_report

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
