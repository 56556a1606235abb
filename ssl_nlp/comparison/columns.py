"""Columns for the evaluators of a suite."""

from ssl_nlp.comparison.items import AT, without_items
from ssl_nlp.comparison.types import Column
from ssl_nlp.evaluation import Result

EVALUATORS = {
    "zero_shot": "zero-shot",
    "knn": "k-NN",
    "linear_probe": "linear probe",
    "retrieval": "retrieval",
    "similarity": "similarity",
    "geometry": "",
    "language_modelling": "",
    "limits": "",
    "generation": "",
}
METRICS = {
    "bleu": "BLEU",
    "f1": "F1",
    "macro_f1": "macro F1",
    "mcc": "MCC",
    "micro_f1": "micro F1",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "v_measure": "V-measure",
    "effective_rank": "effective rank",
    "bits_per_byte": "bits per byte",
    "bits_per_byte_bound": "bits per byte (upper bound)",
    "pseudo_bits_per_byte": "bits per byte (pseudo)",
    "excess_nats": "excess",
    "excess_nats_bound": "excess (upper bound)",
    "pseudo_excess_nats": "excess (pseudo)",
    "share_of_bayes": "share of Bayes' accuracy",
    "self_bleu": "self-BLEU",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "length": "words",
}
BOUND = "_bound"
"""End of the names of metrics that are upper bounds of those without it."""
LIKELIHOODS = [metric for metric in METRICS if "bits_per_byte" in metric or "excess_nats" in metric]
FROZEN, PROMPTS, LANGUAGE = "frozen embeddings", "prompts, without training", "language modelling"
PAIRS = "minimal pairs"
FINE_TUNED = "fine-tuned"
GENERATION, WRITTEN = "free generation", "texts from texts"
GROUPS = (FINE_TUNED, FROZEN, PROMPTS, PAIRS, LANGUAGE, GENERATION, WRITTEN)
"""Groups of columns, in their order in tables."""
LIKELIHOOD = "bits/byte"
"""Unit of the columns of language models, each of which holds one kind of likelihood."""
EXCESS = "nats/word"
"""Unit of the columns of what language models pay beyond the least possible, each of one kind, too."""
UNITS = {"effective_rank": "directions"} | {metric: EXCESS for metric in METRICS if "excess_nats" in metric}


def columns(suite: str, name: str, result: Result) -> list[Column]:
    """Make the column of an evaluator's primary metric; of a language model, a column for each kind of likelihood.

    Of free generation, each metric has a column, and only the primary one has a better direction.

    Likelihoods of different kinds have different metrics, so they never share a column.

    Args:
        suite: its name.
        name: of the evaluator: `knn`, or `animals.knn` in a suite with several data sets; with its items where there are
            several (`ssl_nlp.comparison.items`).
        result: one of its results.
    """
    if "generation" in result.details:
        return [_drawn(suite, name, result, metric) for metric in result.metrics]
    kinds = [metric for metric in LIKELIHOODS if metric in result.metrics] if "kind" in result.details else []
    return [_column(suite, name, result, metric) for metric in kinds or [result.primary_metric]]


def titled(title: str, name: str) -> str:
    """The title of a column with the items of the evaluator, if its name says which."""
    _, _, items = name.partition(AT)
    return f"{title} ({items})" if items else title


def _drawn(suite: str, name: str, result: Result, metric: str) -> Column:
    data, _, _ = without_items(name).rpartition(".")
    title = METRICS.get(metric, metric.replace("_", " "))
    title = titled(f"{data}: {title}" if data else title, name)
    higher = False if metric == result.primary_metric else None
    return Column(f"{suite}/{name}/{metric}", title, higher, group=GENERATION)


def _column(suite: str, name: str, result: Result, metric: str) -> Column:
    data, _, kind = without_items(name).rpartition(".")
    evaluator = EVALUATORS.get(kind, kind.replace("_", " "))
    if kind.startswith("few_labels_"):
        evaluator = f"{kind.removeprefix('few_labels_')}-label"
    elif kind.startswith("few_shot_"):
        evaluator = f"{kind.removeprefix('few_shot_')}-shot"
    title = " ".join(filter(None, (evaluator, METRICS.get(metric, metric.replace("_", " ")))))
    language = "kind" in result.details
    higher = None if kind == "geometry" else not language
    unit = UNITS.get(metric, LIKELIHOOD if language else "")
    groups = {"kind": LANGUAGE, "prompts": PROMPTS, "outputs": WRITTEN, "minimal_pairs": PAIRS}
    group = next((group for key, group in groups.items() if key in result.details), FROZEN)
    title = titled(f"{data}: {title}" if data else title, name)
    return Column(f"{suite}/{name}/{metric}", title, higher, unit, group)
