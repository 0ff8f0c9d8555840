"""Comparisons: many simulated federations, which differ in attacks, defences and other settings, in one table."""

from fedmend.comparison.cell_results import CellResult, CellRound
from fedmend.comparison.cell_runs import CellImages, CellSettings
from fedmend.comparison.combination_rows import NOTHING_RELEASED, Row, SeedRun, misses_first, rows_of
from fedmend.comparison.comparison_cells import Cell, cells_of, with_honest
from fedmend.comparison.comparison_folder import ComparisonFolder
from fedmend.comparison.comparison_plan import Axis, Limits, Plan, plan_from_tables, read_plan
from fedmend.comparison.comparison_runner import Results, Running, compare, default_workers, run_cells
from fedmend.comparison.final_votes import Votes
from fedmend.comparison.seed_intervals import Estimate, estimated

__all__ = [
    "NOTHING_RELEASED",
    "Axis",
    "Cell",
    "CellImages",
    "CellResult",
    "CellRound",
    "CellSettings",
    "ComparisonFolder",
    "Estimate",
    "Limits",
    "Plan",
    "Results",
    "Row",
    "Running",
    "SeedRun",
    "Votes",
    "cells_of",
    "compare",
    "default_workers",
    "estimated",
    "misses_first",
    "plan_from_tables",
    "read_plan",
    "rows_of",
    "run_cells",
    "with_honest",
]
