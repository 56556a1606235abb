"""Models to numbers: evaluators, suites of them, and baselines."""

from ssl_nlp.evaluation.analogies import Analogies, WordAnalogies
from ssl_nlp.evaluation.baselines import LSA, RandomWords, TfIdf
from ssl_nlp.evaluation.bm25 import BM25
from ssl_nlp.evaluation.capabilities import (
    Drawer,
    Embedder,
    Generator,
    PoolingEmbedder,
    Predictor,
    PseudoScorer,
    Retriever,
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
from ssl_nlp.evaluation.clustering import ClusteredTexts, Clustering
from ssl_nlp.evaluation.evaluator import CrossFitted, Evaluator, Fit, Validated
from ssl_nlp.evaluation.free_generation import FreeGeneration
from ssl_nlp.evaluation.geometry import Geometry
from ssl_nlp.evaluation.language_modelling import LanguageModelling
from ssl_nlp.evaluation.minimal_pairs import MinimalPairs
from ssl_nlp.evaluation.pair_classification import PairClassification, RelatedPairs
from ssl_nlp.evaluation.prompts import Prompts, Template
from ssl_nlp.evaluation.result import PROTOCOL, Result
from ssl_nlp.evaluation.retrieval import JudgedRetrieval, Judgements, Retrieval, TextPairs
from ssl_nlp.evaluation.similarity import ScoredPairs, SentenceSimilarity, WordSimilarity
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.evaluation.suites import SUITES, get_suite

__all__ = [
    "BM25",
    "LSA",
    "PROTOCOL",
    "SUITES",
    "Analogies",
    "ClusteredTexts",
    "Clustering",
    "CrossFitted",
    "Drawer",
    "Embedder",
    "Evaluator",
    "FewLabelProbe",
    "Fit",
    "FreeGeneration",
    "Generator",
    "Geometry",
    "JudgedRetrieval",
    "Judgements",
    "Labelled",
    "LabelledSplits",
    "LanguageModelling",
    "LinearProbe",
    "MinimalPairs",
    "NearestNeighbours",
    "PairClassification",
    "PoolingEmbedder",
    "Predictor",
    "Prompts",
    "PseudoScorer",
    "RandomWords",
    "RelatedPairs",
    "Result",
    "Retrieval",
    "Retriever",
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
