"""Self-supervised objectives for text, compared on equal terms."""

import os

__version__ = "0.2.0"

# OpenMP's threads spin while they wait for each other. Where other processes want the same cores, a run then takes
# several times as long; on a quiet machine sleeping costs a small model about a quarter of its speed. The runtime reads
# this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
