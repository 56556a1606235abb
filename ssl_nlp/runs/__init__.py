"""Runs: their directories, metrics, checkpoints, and their copies in W&B."""
