"""Runs beside each other: statistics, table and report."""
