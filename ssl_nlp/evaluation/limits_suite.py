"""The suite of exact limits: how much of a known language a model has learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch

from ssl_nlp.corpora import SPLITS, Corpus, HiddenMarkovLanguage, Split
from ssl_nlp.corpora.hidden_markov import UNSEEN, Floats, Ints
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import Embedder, Scorer, SeveralScorer
from ssl_nlp.evaluation.classification import Labelled, LabelledSplits, LinearProbe
from ssl_nlp.evaluation.evaluator import Evaluator, Fit
from ssl_nlp.evaluation.excess import LEAST_ROWS, STANDARD_ERRORS, ExcessSums
from ssl_nlp.evaluation.language_modelling import NAMES
from ssl_nlp.evaluation.result import Array, Result
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.objectives.scores import Likelihood, Scores, Unable

LIMITS = "limits"
TEXTS = 1000  # documents of each split, at most


@dataclass(frozen=True)
class ExcessNats(Evaluator):
    """Nats per word by which the score of whole documents exceeds the least possible one, each document alone.

    The limit of a likelihood, and of a bound of it, is the exact probability of the document with its end, whatever the
    tokens are. That of a pseudo-likelihood is the exact probability of each word given all others.

    Attributes:
        language: of the documents.
        data: the documents, independent of each other.
    """

    needs: ClassVar[type] = Scorer
    higher_is_better: ClassVar[bool] = False
    language: HiddenMarkovLanguage
    data: Sequence[str]

    def __call__(self, model: Scorer) -> Result:
        """The numbers of a model.

        Raises:
            UserError: it is better than any model can be.
            Unable: its tokenizer does not know a word, the encoder is too short, nothing predicts the first token, or the
                tokens are not words and it gives pseudo-likelihoods alone.
        """
        if unknown := [
            word for word in sorted({*" ".join(self.data).split()}) if not getattr(model, "covers", bool)(word)
        ]:
            raise Unable(f"its tokenizer takes {unknown[0]!r} for any unknown word: give it more documents or entries")
        result = self._scored(model.likelihood, model.score)
        if isinstance(model, SeveralScorer):
            for kind in [kind for kind in model.likelihoods if kind != model.likelihood]:
                try:
                    other = self._scored(kind, partial(model.score, kind=kind))
                except Unable:  # its tokens are not words: the limit of its own kind holds all the same
                    continue
                result.metrics.update(other.metrics)
                result.details["limits"].update(other.details["limits"])
        return result

    def _scored(self, kind: Likelihood | None, score: Callable[[Sequence[str]], Scores]) -> Result:
        scores = score(list(self.data))
        words = self.language.as_numbers(self.data)
        lengths = (words != UNSEEN).sum(axis=1)
        pseudo = scores.kind == "pseudo-likelihood"
        if scores.cut.any():
            raise Unable("its encoder is too short for some documents")
        if scores.unpredicted:
            raise Unable(
                "it does not predict the first token of a document: use a tokenizer that puts a token in front of texts"
            )
        if pseudo and (scores.targets.numpy() != lengths).any():
            raise Unable("its tokens are not words: the limit of a pseudo-likelihood needs a tokenizer of kind word")
        limit, unigram = (_pseudo if pseudo else _exact)(self.language, words, lengths)
        sums = ExcessSums()
        targets = torch.from_numpy(lengths if pseudo else lengths + 1)
        sums.add(scores.nats, torch.from_numpy(limit), torch.from_numpy(unigram), targets)
        excess = sums.excess()
        assert excess is not None
        if excess.impossible is not None:
            raise UserError(excess.impossible)
        primary = NAMES[scores.kind].format("excess_nats")
        metrics = {primary: excess.nats}
        if excess.gap_closed is not None:
            metrics[NAMES[scores.kind].format("gap_closed")] = excess.gap_closed
        details: dict[str, Any] = {"kind": scores.kind, "limits": {scores.kind: excess.to_json()}}
        items = np.stack([scores.nats.numpy() - limit, targets.numpy()], axis=1)
        return Result(primary, metrics, details, items, "ratio")


@dataclass(frozen=True)
class TopicProbe(LinearProbe):
    """The linear probe of the documents' topics, as a share of the best that any classifier can do.

    Its main number is (accuracy - chance) / (`bayes_accuracy` - chance), where chance is the accuracy of the most frequent
    training topic.

    Attributes:
        best: (N,) the most probable topic of each test document by the exact posterior.
        best_valid: (M,) that of each validation document.
    """

    best: Sequence[str]
    best_valid: Sequence[str]

    @property
    def learnable(self) -> bool:
        """Whether the best classifier gets more right than the most frequent topic does, on both parts."""
        parts = ((self.data.test, self.best), (self.data.valid, self.best_valid))
        return all(bayes > chance for bayes, chance in (self._ends(*part) for part in parts))

    @property
    def validation(self) -> "TopicProbe":
        return replace(self, data=replace(self.data, test=self.data.valid), best=self.best_valid)

    def fit(self, embedder: Embedder) -> Fit:
        accuracy, predictor = super().fit(embedder)
        bayes, chance = self._ends(self.data.valid, self.best_valid)
        return Fit((accuracy - chance) / (bayes - chance), predictor)

    def result(self, predicted: Array) -> Result:
        """The numbers of predictions.

        Raises:
            UserError: they are better than any classifier's can be.
        """
        found = super().result(predicted)
        bayes, chance = self._ends(self.data.test, self.best)
        gold = np.array(self.data.test.labels)
        _refuse_above_bayes(gold == predicted, gold == np.array(self.best))
        items = ((gold == predicted) - chance) / (bayes - chance)
        share = (found.metrics["accuracy"] - chance) / (bayes - chance)
        metrics = {"share_of_bayes": share, **found.metrics, "bayes_accuracy": bayes}
        return Result("share_of_bayes", metrics, found.details, items.astype(np.float32))

    def _ends(self, part: Labelled, best: Sequence[str]) -> tuple[float, float]:
        """The accuracy of the best classifier on a part, and that of the most frequent training topic."""
        gold, (names, counts) = np.array(part.labels), np.unique(self.data.train.labels, return_counts=True)
        return float((gold == np.array(best)).mean()), float((gold == names[counts.argmax()]).mean())


def limits_suite(corpus: Corpus) -> Suite:
    """The suite for models that were trained on a language that is known.

    Raises:
        UserError: the corpus is another one.
    """
    if not isinstance(corpus, HiddenMarkovLanguage):
        raise UserError(
            f"the least loss on {corpus} is not known: --suite {LIMITS} needs a run on HiddenMarkovLanguage, such as "
            "--config data/synthetic trains"
        )
    parts = {split: _topics(corpus, split) for split in SPLITS}
    test = parts["test"]
    evaluators: dict[str, Evaluator] = {"limits": ExcessNats(corpus, test.texts)}
    if len({*parts["train"].labels}) > 1:
        topics = LabelledSplits(LIMITS, parts["train"], parts["valid"], test)
        best, best_valid = (_most_probable(corpus, part.texts) for part in (topics.test, topics.valid))
        probe = TopicProbe(topics, best, best_valid)
        if probe.learnable:
            evaluators["topic.linear_probe"] = probe
    return Suite(LIMITS, evaluators, parts["train"].texts)


def _refuse_above_bayes(right: Array, best: Array) -> None:
    """Refuse a classifier that is right more often than the best one, on the same items, by more than chance explains.

    Args:
        right, best: (N,) booleans, whether each item is classified correctly.
    """
    if len(right) < LEAST_ROWS:
        return
    gain = right.astype(float) - best
    chance = STANDARD_ERRORS * float(gain.std(ddof=1)) / len(gain) ** 0.5
    if gain.mean() > chance:
        raise UserError(
            f"the probe of the topic is right for {right.mean():.1%} of the documents, and the best classifier possible "
            f"for {best.mean():.1%}; chance explains a difference of {chance:.1%} at most: the model sees what it should "
            "predict. Likely causes: labels within the texts or their embeddings, or texts of the test split in the "
            "training data"
        )


def _most_probable(corpus: HiddenMarkovLanguage, texts: Sequence[str]) -> list[str]:
    """The topic of each text by the exact posterior."""
    posterior = corpus.model.topic_posterior(corpus.as_numbers(texts))
    return [corpus.topic(number) for number in posterior.argmax(axis=1).tolist()]


def _topics(corpus: HiddenMarkovLanguage, split: Split) -> Labelled:
    """The first documents of a split that are independent: one of those in a row that share a topic."""
    step = corpus.same_topic // 2 if corpus.pairs else corpus.same_topic
    documents = [*islice(corpus.documents(split), 0, TEXTS * step, step)]
    return Labelled([document.text for document in documents], [str(document.label) for document in documents])


def _exact(language: HiddenMarkovLanguage, words: Ints, lengths: Ints) -> tuple[Floats, Floats]:
    """(N,) nats of documents with their ends, exactly and under the frequencies of words and ends."""
    rate = language.end_rate
    unigram = np.where(words != UNSEEN, language.model.unigram[words] + np.log1p(-rate), 0.0).sum(axis=1) + np.log(rate)
    return -(language.model.log_likelihood(words) + np.log(language.lengths[lengths])), -unigram


def _pseudo(language: HiddenMarkovLanguage, words: Ints, lengths: Ints) -> tuple[Floats, Floats]:
    """(N,) nats of the words of documents, each given all others, and under their frequencies."""
    posteriors = language.model.word_posteriors(language.model.evidence(words))
    each = np.take_along_axis(posteriors, words[:, :, None], 2)[:, :, 0]
    nats = (each, language.model.unigram[words])
    limit, unigram = (-np.where(words != UNSEEN, logs, 0.0).sum(axis=1) for logs in nats)
    return limit, unigram
