"""What a run keeps: its directory, metrics, checkpoints, and its copy in W&B."""
