"""One self-contained HTML page from the results of a scan, a repair and a federation.

It renders results and computes nothing.
"""

from fedmend.report.contents import (
    AttackEvaluation,
    RepairOutcome,
    RepairSummary,
    ReportContents,
    RoundRecord,
)
from fedmend.report.folder import read_folder
from fedmend.report.render import render, write_report

__all__ = [
    "AttackEvaluation",
    "RepairOutcome",
    "RepairSummary",
    "ReportContents",
    "RoundRecord",
    "read_folder",
    "render",
    "write_report",
]
