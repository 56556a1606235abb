"""What runs beside the training: throughput, progress, samples, collapse, probes, metrics on disk."""

from ssl_nlp.callbacks.checkpoints import Checkpoints
from ssl_nlp.callbacks.collapse_monitor import CollapseMonitor
from ssl_nlp.callbacks.divergence import Divergence
from ssl_nlp.callbacks.embedding_writer import EmbeddingWriter
from ssl_nlp.callbacks.final_validation import FinalValidation
from ssl_nlp.callbacks.metrics_csv import MetricsCSV
from ssl_nlp.callbacks.online_probe import OnlineProbe
from ssl_nlp.callbacks.progress import Progress, ValidationLine
from ssl_nlp.callbacks.samples import Samples
from ssl_nlp.callbacks.throughput import Throughput

__all__ = [
    "Checkpoints",
    "CollapseMonitor",
    "Divergence",
    "EmbeddingWriter",
    "FinalValidation",
    "MetricsCSV",
    "OnlineProbe",
    "Progress",
    "Samples",
    "Throughput",
    "ValidationLine",
]
