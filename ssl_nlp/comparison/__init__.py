"""Comparison of runs: statistics, tables and report."""

from ssl_nlp.comparison.assemble import compare_runs
from ssl_nlp.comparison.compared_runs import ComparedRun, find_runs, read_run
from ssl_nlp.comparison.table import render_tables
from ssl_nlp.comparison.types import Column, Comparison, Estimate, Row, Verdict

__all__ = [
    "Column",
    "ComparedRun",
    "Comparison",
    "Estimate",
    "Row",
    "Verdict",
    "compare_runs",
    "find_runs",
    "read_run",
    "render_tables",
]
