"""Lightning callbacks: checkpoints, progress, throughput, samples, checks for collapse and divergence, online probes."""

from ssl_nlp.training.callbacks.checkpoints import Checkpoints
from ssl_nlp.training.callbacks.collapse_monitor import CollapseMonitor
from ssl_nlp.training.callbacks.divergence import Divergence
from ssl_nlp.training.callbacks.elastic_weights import ElasticWeights
from ssl_nlp.training.callbacks.embedding_writer import EmbeddingWriter
from ssl_nlp.training.callbacks.excess_loss import ExcessLoss
from ssl_nlp.training.callbacks.extension import Extension
from ssl_nlp.training.callbacks.final_validation import FinalValidation
from ssl_nlp.training.callbacks.online_probe import OnlineProbe
from ssl_nlp.training.callbacks.part_scores import PartScores
from ssl_nlp.training.callbacks.progress import Progress, ValidationLine
from ssl_nlp.training.callbacks.progress_lines import ProgressLines
from ssl_nlp.training.callbacks.rehearsal import Rehearsal
from ssl_nlp.training.callbacks.run_keeper import RunKeeper
from ssl_nlp.training.callbacks.samples import Samples
from ssl_nlp.training.callbacks.throughput import Throughput
from ssl_nlp.training.callbacks.weights_per_part import WeightsPerPart

__all__ = [
    "Checkpoints",
    "CollapseMonitor",
    "Divergence",
    "ElasticWeights",
    "EmbeddingWriter",
    "ExcessLoss",
    "Extension",
    "FinalValidation",
    "OnlineProbe",
    "PartScores",
    "Progress",
    "ProgressLines",
    "Rehearsal",
    "RunKeeper",
    "Samples",
    "Throughput",
    "ValidationLine",
    "WeightsPerPart",
]
