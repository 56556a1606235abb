"""Suites of well-known data sets on the Hugging Face hub."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ssl_nlp.corpora import Document, HubDataset
from ssl_nlp.corpora.hub_dataset import configurations
from ssl_nlp.evaluation.data_suite import Data, Task, data_suite, labelled_splits, minimal_pairs, scored_pairs
from ssl_nlp.evaluation.excerpts import CHARACTERS, Excerpts
from ssl_nlp.evaluation.suite import Suite


@dataclass(frozen=True)
class HubData:
    """One data set, and the meaning of its columns.

    Attributes:
        path, config: its name, and one of its configurations. For minimal pairs, all are read, each as a paradigm.
        test: the split with public labels on which numbers are reported.
        valid: a split, or a share of `train` if there is no other split to choose on. Of similarity, only a split counts:
            a published test split stays whole.
        label: class, score, or paradigm of a minimal pair.
        part: the field of grammar of a minimal pair.
    """

    path: str
    config: str | None = None
    task: Task = "classification"
    text: str = "text"
    pair: str | None = None
    label: str = "label"
    train: str = "train"
    valid: str | float = 0.1
    test: str = "test"
    part: str | None = None

    def read(self) -> Data:
        """The data set."""
        name = self.path if self.config is None else f"{self.path} ({self.config})"
        if self.task == "similarity":  # without training, only its test split is read
            pairs = scored_pairs(name, self._split(self.test))
            if isinstance(self.valid, float):
                return pairs
            tested = {*map(frozenset, zip(pairs.first, pairs.second, strict=True))}
            others = (one for one in self._split(self.valid) if frozenset((one.text, one.pair)) not in tested)
            return replace(pairs, valid=scored_pairs(name, others, "valid"))
        if self.task == "minimal_pairs":
            return minimal_pairs(name, [pair for one in configurations(self.path) for pair in self._pairs(one)])
        corpus = HubDataset(self.path, self.config, self.train, self.valid, self.test, self.text, self.label, self.pair)
        return labelled_splits(name, corpus)

    def _split(self, split: str) -> Iterator[Document]:
        """The documents of one split, without a look at the others."""
        corpus = HubDataset(self.path, self.config, split, 0.5, None, self.text, self.label, self.pair)
        return Excerpts(corpus, CHARACTERS).read("train")

    def _pairs(self, config: str) -> Iterator[Document]:
        """The pairs of one paradigm, which stay whole."""
        corpus = HubDataset(self.path, config, self.test, 0.5, None, self.text, self.label, self.pair, part=self.part)
        return corpus.read("train")


def _sts(path: str, valid: str | float = 0.1) -> HubData:
    return HubData(path, None, "similarity", "sentence1", "sentence2", "score", valid=valid)


def _glue(config: str, text: str, pair: str | None = None, test: str = "validation") -> HubData:
    return HubData("nyu-mll/glue", config, text=text, pair=pair, test=test)  # the labels of its test splits are secret


HUB_SUITES: dict[str, dict[str, HubData]] = {
    # The seven of SentEval's and SimCSE's tables (arXiv:2104.08821, table 5).
    "sts": {f"sts{year}": _sts(f"mteb/sts{year}-sts") for year in range(12, 17)}
    | {"stsb": _sts("mteb/stsbenchmark-sts", "validation"), "sickr": _sts("mteb/sickr-sts")},
    # The seven of SentEval's and SimCSE's transfer tables (arXiv:1803.05449, table 1; arXiv:2104.08821, table 6).
    "sentence": {
        "mr": HubData("cornell-movie-review-data/rotten_tomatoes", valid="validation"),
        "cr": HubData("SetFit/SentEval-CR"),
        "subj": HubData("SetFit/subj"),
        "mpqa": HubData("jxm/mpqa", text="sentence"),
        "trec": HubData("SetFit/TREC-QC", label="label_coarse_original"),
        "sst2": _glue("sst2", "sentence"),
        "mrpc": _glue("mrpc", "sentence1", "sentence2", test="test"),
    },
    "glue": {
        "cola": _glue("cola", "sentence"),
        "sst2": _glue("sst2", "sentence"),
        "mrpc": _glue("mrpc", "sentence1", "sentence2"),
        "qqp": _glue("qqp", "question1", "question2"),
        "stsb": HubData(
            "nyu-mll/glue", "stsb", "similarity", "sentence1", "sentence2", valid="train", test="validation"
        ),
        "mnli": _glue("mnli", "premise", "hypothesis", test="validation_matched"),
        "qnli": _glue("qnli", "question", "sentence"),
        "rte": _glue("rte", "sentence1", "sentence2"),
    },
}

BLIMP = HubData(
    "nyu-mll/blimp", None, "minimal_pairs", "sentence_good", "sentence_bad", "UID", test="train", part="field"
)  # arXiv:1912.00582: 67 paradigms of 1,000 pairs


def hub_suite(name: str, data: dict[str, HubData] | None = None) -> Suite:
    """One of `HUB_SUITES`, or of other data sets.

    Raises:
        UserError: the hub cannot be reached, or a data set is not what it was.
    """
    chosen = HUB_SUITES[name] if data is None else data
    return data_suite(name, {key: (given.task, given.read()) for key, given in chosen.items()})
