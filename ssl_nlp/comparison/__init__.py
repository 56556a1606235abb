"""Runs beside each other: statistics, table and report."""

from ssl_nlp.comparison.assemble import compare
from ssl_nlp.comparison.comparison import Column, Comparison, Estimate, Row, Verdict
from ssl_nlp.comparison.runs import Run, find_runs, read_run
from ssl_nlp.comparison.table import render

__all__ = ["Column", "Comparison", "Estimate", "Row", "Run", "Verdict", "compare", "find_runs", "read_run", "render"]
