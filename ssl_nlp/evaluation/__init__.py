"""Models to numbers: evaluators, suites of them, and baselines."""

from ssl_nlp.evaluation.analogies import Analogies, WordAnalogies
from ssl_nlp.evaluation.baselines import RandomWords, TfIdf
from ssl_nlp.evaluation.capabilities import (
    Drawer,
    Embedder,
    Generator,
    PoolingEmbedder,
    Predictor,
    Scorer,
    WordScorer,
)
from ssl_nlp.evaluation.classification import (
    FewLabelProbe,
    Labelled,
    LabelledSplits,
    LinearProbe,
    NearestNeighbours,
)
from ssl_nlp.evaluation.evaluator import CrossFitted, Evaluator, Fit, Validated
from ssl_nlp.evaluation.free_generation import FreeGeneration
from ssl_nlp.evaluation.geometry import Geometry
from ssl_nlp.evaluation.language_modelling import LanguageModelling
from ssl_nlp.evaluation.prompts import Prompts, Template
from ssl_nlp.evaluation.result import PROTOCOL, Result
from ssl_nlp.evaluation.retrieval import Retrieval, TextPairs
from ssl_nlp.evaluation.similarity import ScoredPairs, SentenceSimilarity, WordSimilarity
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.evaluation.suites import SUITES, get_suite

__all__ = [
    "PROTOCOL",
    "SUITES",
    "Analogies",
    "CrossFitted",
    "Drawer",
    "Embedder",
    "Evaluator",
    "FewLabelProbe",
    "Fit",
    "FreeGeneration",
    "Generator",
    "Geometry",
    "Labelled",
    "LabelledSplits",
    "LanguageModelling",
    "LinearProbe",
    "NearestNeighbours",
    "PoolingEmbedder",
    "Predictor",
    "Prompts",
    "RandomWords",
    "Result",
    "Retrieval",
    "ScoredPairs",
    "Scorer",
    "SentenceSimilarity",
    "Suite",
    "Template",
    "TextPairs",
    "TfIdf",
    "Validated",
    "WordAnalogies",
    "WordScorer",
    "WordSimilarity",
    "get_suite",
]
