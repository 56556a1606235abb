"""Frozen embeddings to numbers: evaluators, suites of them, and baselines."""

from ssl_nlp.evaluation.baselines import RandomWords, TfIdf
from ssl_nlp.evaluation.classification import (
    FewLabelProbe,
    Labelled,
    LabelledSplits,
    LinearProbe,
    NearestNeighbours,
)
from ssl_nlp.evaluation.geometry import Geometry
from ssl_nlp.evaluation.result import PROTOCOL, Embedder, Evaluator, Result
from ssl_nlp.evaluation.retrieval import Retrieval, TextPairs
from ssl_nlp.evaluation.similarity import ScoredPairs, SentenceSimilarity, WordSimilarity
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.evaluation.suites import SUITES, get_suite

__all__ = [
    "PROTOCOL",
    "SUITES",
    "Embedder",
    "Evaluator",
    "FewLabelProbe",
    "Geometry",
    "Labelled",
    "LabelledSplits",
    "LinearProbe",
    "NearestNeighbours",
    "RandomWords",
    "Result",
    "Retrieval",
    "ScoredPairs",
    "SentenceSimilarity",
    "Suite",
    "TextPairs",
    "TfIdf",
    "WordSimilarity",
    "get_suite",
]
