"""What runs beside the training: throughput, progress, samples, metrics on disk."""

from ssl_nlp.callbacks.metrics_csv import MetricsCSV
from ssl_nlp.callbacks.progress import Progress
from ssl_nlp.callbacks.samples import Samples
from ssl_nlp.callbacks.throughput import Throughput

__all__ = ["MetricsCSV", "Progress", "Samples", "Throughput"]
