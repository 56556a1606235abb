from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_nlp.commands.evaluation_tables import limits_table
from ssl_nlp.comparison.columns import LANGUAGE, columns
from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.corpora.hidden_markov import UNSEEN
from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.classification import Labelled, LabelledSplits
from ssl_nlp.evaluation.excess import Excess
from ssl_nlp.evaluation.limits_suite import ExcessNats, TopicProbe, limits_suite
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.methods import VAE, CausalLM, CausalMaskedLM, MaskedDiffusion, MaskedLM
from ssl_nlp.objectives.scores import Scores
from tests.corpus import ListCorpus, random_texts

TOPICS = 3
LANGUAGE_KNOWN = HiddenMarkovLanguage(
    TOPICS, 2, 10, longest=12, documents=500, valid=0.2, test=0.2, word_concentration=0.5, same_topic=1
)
TEXTS = [document.text for document in LANGUAGE_KNOWN.documents("test")]


class Known:
    """Knows the language, and pays less or more than it must."""

    def __init__(self, kind, more=0.0):
        self.likelihood, self.more = kind, more

    def score(self, texts):
        model, nats, targets = LANGUAGE_KNOWN.model, [], []
        for text in texts:
            words = np.array([[LANGUAGE_KNOWN.words.index(word) for word in text.split()]])
            size = words.shape[1]
            if self.likelihood == "pseudo-likelihood":
                hidden = [np.where(np.arange(size) == t, UNSEEN, words) for t in range(size)]
                each = [float(model.log_likelihood(words)[0] - model.log_likelihood(row)[0]) for row in hidden]
                nats.append(-sum(each))
            else:
                nats.append(-float(model.next_words(words).sum()) - np.log(LANGUAGE_KNOWN.lengths[size]))
            targets.append(size + (self.likelihood != "pseudo-likelihood"))
        targets = torch.tensor(targets)
        random = torch.randn(len(texts), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return Scores(self.likelihood, torch.tensor(nats) + self.more * targets + 0.01 * random, targets, targets)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("likelihood", "{}"), ("bound", "{}_bound"), ("pseudo-likelihood", "pseudo_{}")],
)
def test_who_knows_the_language_is_at_the_limit_and_who_pays_less_has_peeked(kind, name):
    evaluator = ExcessNats(LANGUAGE_KNOWN, TEXTS[:40])
    result = evaluator(Known(kind))
    assert result.primary_metric == name.format("excess_nats")
    assert result.primary == pytest.approx(0, abs=2e-3)
    assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)
    assert result.metrics[name.format("gap_closed")] == pytest.approx(1, abs=5e-3)
    assert evaluator(Known(kind, more=0.5)).primary == pytest.approx(0.5, abs=2e-3)
    with pytest.raises(UserError, match="the model sees what it should predict"):
        evaluator(Known(kind, more=-0.01))


def connected(method, texts):
    tokenizer = Tokenizer(train(TokenizerSettings("word"), lambda: iter(texts)))
    torch.manual_seed(0)
    method.connect(tokenizer)
    return method


def test_every_kind_of_likelihood_has_a_row_in_the_table_and_the_lowest_excess_is_best():
    encoder = Transformer(size=None, dim=8, layers=1, heads=2, max_length=32)
    method = connected(CausalMaskedLM(encoder), TEXTS)
    [result] = run_evaluators({"limits": ExcessNats(LANGUAGE_KNOWN, TEXTS[:40])}, method, None).results.values()
    assert result.metrics.keys() == {
        "excess_nats", "gap_closed", "pseudo_excess_nats", "pseudo_gap_closed",
    }  # fmt: skip
    assert result.primary > 0.1
    found = columns("limits", "limits", result)
    assert [column.title for column in found] == ["excess", "excess (pseudo)"]
    assert {(c.higher_is_better, c.unit, c.group) for c in found} == {(False, "nats/word", LANGUAGE)}
    table = limits_table("limits", [("a", result)])
    assert table.row_count == 2
    for numbers in result.details["limits"].values():
        assert (numbers["verdict"], numbers["excess"]) == ("above it", numbers["loss"] - numbers["limit"])
    assert (table.columns[-1].header, [*table.columns[-1].cells]) == ("verdict", ["above it", "above it"])


def test_only_a_likelihood_has_a_limit_where_tokens_are_not_words():
    method = CausalMaskedLM(Transformer(size=None, dim=8, layers=1, heads=2, max_length=64))
    method.connect(Tokenizer(train(TokenizerSettings("char"), lambda: iter(TEXTS))))
    [result] = run_evaluators({"limits": ExcessNats(LANGUAGE_KNOWN, TEXTS[:40])}, method, None).results.values()
    assert result.metrics.keys() == {"excess_nats", "gap_closed"}


@pytest.mark.parametrize(
    ("nats", "rows", "verdict"),
    [
        (0.21, 30, "above it"), (0.19, 30, "reached"), (-0.19, 30, "reached"), (-0.21, 30, "below it by chance"),
        (-0.39, 30, "below it by chance"), (-0.41, 30, "impossible"), (-0.41, 29, "too few rows to say"),
    ],
)  # fmt: skip
def test_a_verdict_says_in_words_where_the_loss_is(nats, rows, verdict):
    found = Excess(3 + nats, 3.0, 4.0, standard_error=0.1, rows=rows)
    assert found.verdict == verdict
    assert (found.impossible is not None) == (verdict == "impossible")


@pytest.mark.parametrize("kind", [VAE, MaskedDiffusion])
def test_a_bound_is_above_the_exact_value(kind):
    method = connected(kind(Transformer(size=None, dim=8, layers=1, heads=2, max_length=32)), TEXTS)
    [result] = run_evaluators({"limits": ExcessNats(LANGUAGE_KNOWN, TEXTS[:40])}, method, None).results.values()
    assert result.primary_metric == "excess_nats_bound"
    assert result.primary > 0.1


def test_documents_that_are_cut_begin_unpredicted_or_have_pieces_of_words_or_unknown_words_have_no_limit():
    evaluators = {"limits": ExcessNats(LANGUAGE_KNOWN, TEXTS[:40])}
    short = connected(CausalLM(Transformer(size=None, dim=8, layers=1, heads=2, max_length=9)), TEXTS)
    assert "too short" in run_evaluators(evaluators, short, None).missing["limits"]
    bare = CausalLM(Transformer(size=None, dim=8, layers=1, heads=2, max_length=64))
    framed = train(TokenizerSettings("word"), lambda: iter(TEXTS))
    bare.connect(Tokenizer(framed.replace('"prefix": [2], "suffix": []', '"prefix": [], "suffix": [2]')))
    assert "not predict the first token" in run_evaluators(evaluators, bare, None).missing["limits"]
    masked = MaskedLM(Transformer(size=None, dim=8, layers=1, heads=2, max_length=64))
    masked.connect(Tokenizer(train(TokenizerSettings("char"), lambda: iter(TEXTS))))
    assert "kind word" in run_evaluators(evaluators, masked, None).missing["limits"]
    # An unknown token stands for several words, so a model may find it likelier than the word that it stands for.
    fewer = [" ".join(sorted({*" ".join(TEXTS).split()})[1:])]
    causal = connected(CausalLM(Transformer(size=None, dim=8, layers=1, heads=2, max_length=64)), fewer)
    assert "unknown word" in run_evaluators(evaluators, causal, None).missing["limits"]


def test_a_probe_of_the_topic_is_measured_by_bayes_rule_with_chance_taken_off():
    probe = limits_suite(LANGUAGE_KNOWN).evaluators["topic.linear_probe"]
    test, model = probe.data.test, LANGUAGE_KNOWN.model
    best = []
    for text in test.texts:
        words = np.array([[LANGUAGE_KNOWN.words.index(word) for word in text.split()]])
        alone = [  # p(topic, words), from a mixture of which the others are taken away
            replace(model, topics=np.where(np.arange(TOPICS) == k, model.topics, -np.inf)).log_likelihood(words)[0]
            for k in range(TOPICS)
        ]
        best.append(f"topic{int(np.argmax(alone))}")
    bayes = np.mean([label == topic for label, topic in zip(test.labels, best, strict=True)])
    assert 0.5 < bayes < 1
    perfect = probe.result(np.array(best))
    assert perfect.metrics["bayes_accuracy"] == perfect.metrics["accuracy"] == pytest.approx(bayes)
    assert perfect.primary == pytest.approx(1)
    assert probe.majority().primary == pytest.approx(0, abs=1e-6)
    half = probe.result(np.where(np.arange(len(best)) % 2, best, "topic0"))
    assert half.primary == pytest.approx(float(half.items.mean()), abs=1e-6)
    [column] = columns("limits", "topic.linear_probe", half)
    assert column.higher_is_better and column.title == "topic: linear probe share of Bayes' accuracy"


@pytest.mark.parametrize(
    "settings",
    [
        {"topics": 1},
        {"topics": 2, "topic_concentration": 0.05},  # all documents have the first topic
        {"topics": 2, "topic_concentration": 1.0, "word_concentration": 1e4},  # words say nothing about it
    ],
)
def test_where_nothing_can_be_learned_of_topics_there_is_no_probe(settings):
    language = HiddenMarkovLanguage(**{"states": 2, "words": 10, "longest": 12, "documents": 400} | settings)
    assert limits_suite(language).evaluators.keys() == {"limits"}


@pytest.mark.parametrize(("pairs", "step"), [(False, 4), (True, 2)])
def test_documents_are_independent(pairs, step):
    """Those in a row share a topic, so that a model that knows one topic less well is wrong about several at once."""
    language = HiddenMarkovLanguage(3, 2, 10, documents=400, test=0.2, same_topic=4, pairs=pairs)
    every = [document.text for document in language.documents("test")]
    assert list(limits_suite(language).evaluators["limits"].data) == every[::step]


def test_of_words_that_are_equally_likely_everywhere_no_share_is_learned():
    language = HiddenMarkovLanguage(1, 1, 10, longest=12, documents=40, valid=0.2, test=0.5)
    method = connected(MaskedLM(Transformer(size=None, dim=8, layers=1, heads=2, max_length=32)), language.words)
    texts = [document.text for document in language.documents("test")]
    [result] = run_evaluators({"limits": ExcessNats(language, texts)}, method, None).results.values()
    assert result.metrics.keys() == {"pseudo_excess_nats"}
    assert limits_table("limits", [("a", result)]).columns[-2]._cells == ["–"]


def test_another_corpus_has_no_limits():
    with pytest.raises(UserError, match="is not known: --suite limits needs a run on HiddenMarkovLanguage"):
        limits_suite(ListCorpus(random_texts(20)))


@pytest.mark.parametrize(("items", "gained", "refused"), [(100, 10, False), (100, 20, True), (29, 20, False)])
def test_a_probe_of_the_topic_better_than_bayes_rule_by_more_than_chance_has_peeked(items, gained, refused):
    gold = np.array(["b"] * (items - 5) + ["a"] * 5)  # of n gains, about the square root of n are a standard error
    best = np.where(np.arange(items) < gained, "a", gold)
    part = Labelled([f"text {number}" for number in range(items)], gold.tolist())
    train_part = Labelled(["one", "two", "three"], ["a", "a", "b"])
    probe = TopicProbe(LabelledSplits("topics", train_part, part, part), best.tolist(), best.tolist())
    if refused:
        with pytest.raises(UserError, match="the best classifier possible for 80.0%.* the model sees what it should"):
            probe.result(gold)
    else:
        assert probe.result(gold).primary > 1
    assert probe.result(best).primary == pytest.approx(1)
