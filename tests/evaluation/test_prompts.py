"""Classification by prompts: predictions from scores, draws, calibration, and what is refused."""

import math

import numpy as np
import pytest
import torch

from ssl_nlp.corpora import Document
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Labelled, LabelledSplits, Prompts, Template, prompts_suite
from ssl_nlp.evaluation.prompts import interval
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.objectives.scores import Unable, WordScores
from tests.corpus import ListCorpus

TRAIN = Labelled([f"train {i}" for i in range(12)], ["bad", "good"] * 5 + ["good", "good"])
VALID = Labelled(["valid"], ["good"])
TEST = Labelled(["one good film", "one bad film", "two good films", "a thing"], ["good", "bad", "good", "bad"])
DATA = LabelledSplits("films", TRAIN, VALID, TEST)
WORDS = {"good": "fine", "bad": "terrible"}


class Reader:
    """Finds a word likelier by what `likes` says of the last line of the prompt, and notes the prompts."""

    def __init__(self, likes, cut=0):
        self.likes, self.cut, self.prompts = likes, cut, []

    def score_words(self, prompts):
        self.prompts.append(prompts)
        nats = [[self.likes(prompt.before, word) for word in prompt.words] for prompt in prompts]
        tokens = [[len(word) // 2 for word in prompt.words] for prompt in prompts]  # fine: 2, terrible: 4
        sizes = [[len(word) for word in prompt.words] for prompt in prompts]
        counts = torch.tensor([self.cut] + [0] * (len(prompts) - 1))
        return WordScores("likelihood", torch.tensor(nats).double(), torch.tensor(tokens), torch.tensor(sizes),
                          counts, torch.zeros_like(counts))  # fmt: skip


def knowing(before, word):
    """Knows the films, and finds long words unlikely."""
    right = {"good": "fine", "bad": "terrible"}
    return -len(word) + 3.0 * any(key in before and right[key] == word for key in right)


def test_three_numbers_from_sums_and_lengths():
    result = Prompts(DATA, template=Template("{text} It was {label}.", WORDS))(Reader(knowing))
    # Sums: fine -4 (or -1), terrible -8 (or -5): always fine. By token: -2 (-0.5) and -2 (-1.25): right; fine where equal,
    # which comes second in the order of the classes, so that the first of equals is terrible. By byte likewise.
    assert result.primary_metric == "accuracy"
    assert result.metrics["accuracy"] == 0.5
    assert result.metrics["accuracy_per_token"] == 1.0
    assert result.metrics["accuracy_per_byte"] == 1.0
    assert "calibrated_accuracy" not in result.metrics
    assert result.details["prompts"]["kind"] == "likelihood"
    assert statistic_of(result.items, result.statistic) == result.primary
    by_token = Prompts(DATA, template=Template("{text} It was {label}.", WORDS, rank="token"))(Reader(knowing))
    assert (by_token.primary_metric, by_token.primary) == ("accuracy_per_token", 1.0)


def test_calibration_divides_by_the_probabilities_after_a_text_without_content():
    """Contextual calibration (arXiv:2102.09690): the averages of p(word | no content), for several such texts."""

    def nats(before, word):
        return math.log({"fine": 0.2, "terrible": 0.04}[word]) + (0.7 if "bad" in before and word == "terrible" else 0)

    template = Template("{text} It was {label}.", WORDS, calibration=("N/A", ""))
    reader = Reader(nats)
    result = Prompts(DATA, template=template)(reader)
    assert [prompt.before for prompt in reader.prompts[0]][-2:] == ["N/A It was ", " It was "]
    assert result.primary_metric == "calibrated_accuracy"
    assert result.metrics["accuracy"] == 0.5  # fine everywhere
    # After division both words are equally likely, except where `bad` stands; the first of equals is bad.
    assert result.metrics["calibrated_accuracy"] == 0.5
    found = Prompts(DATA, template=template)(
        Reader(lambda b, w: nats(b, w) + (0.1 if "good" in b and w == "fine" else 0))
    )
    assert found.metrics["calibrated_accuracy"] == 1.0


def test_examples_are_drawn_with_a_seed_for_all_items_alike():
    template = Template("{text} It was {label}.", WORDS, shots=3, draws=4, separator=" | ")
    reader = Reader(knowing, cut=2)
    result = Prompts(DATA, template=template)(reader)
    drawn = [{prompt.examples for prompt in prompts} for prompts in reader.prompts]
    assert [len(draw) for draw in drawn] == [1] * 4
    draws = [next(iter(draw)) for draw in drawn]
    assert len(set(draws)) == 4
    solved = {f"{text} It was {WORDS[label]}. | " for text, label in zip(TRAIN.texts, TRAIN.labels, strict=True)}
    assert all(len(set(draw)) == 3 and set(draw) <= solved for draw in draws)
    again = Reader(knowing)
    Prompts(DATA, template=template)(again)
    assert again.prompts == reader.prompts
    other = Reader(knowing)
    Prompts(DATA, template=Template("{text} It was {label}.", WORDS, shots=3, draws=4, seed=1))(other)
    assert other.prompts[0][0].examples != reader.prompts[0][0].examples
    assert result.metrics["examples_cut"] == 1 / 4  # one prompt of four, in each draw
    assert len(result.details["prompts"]["draws"]) == 4


@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_the_interval_covers_items_and_draws(deviation):
    """As often as it says, and not more often: what draws do to single items does not count twice."""
    generator = np.random.default_rng(0)
    truth, hit, trials = 0.7, 0, 400
    for _ in range(trials):
        draws = truth + generator.normal(0, deviation, 4)
        low, high = interval((generator.random((4, 200)) < draws[:, None]).astype(float))
        hit += low <= truth <= high
    assert 0.93 <= hit / trials <= 0.98
    one = (generator.random((1, 400)) < 0.5).astype(float)
    low, high = interval(one)
    assert high - low == pytest.approx(2 * 1.96 * one.std(ddof=1) / 20, rel=1e-3)


@pytest.mark.parametrize("draws", [1, 4])
def test_a_few_items_that_are_all_right_or_all_wrong_are_no_certainty(draws):
    for items, least in ((1, 0.025), (5, 0.025 ** (1 / 5))):
        assert interval(np.ones((draws, items))) == (pytest.approx(least), 1.0)
        assert interval(np.zeros((draws, items))) == (0.0, pytest.approx(1 - least))


def test_pairs_and_braces_in_texts():
    pairs = [part.first(20) for part in (TRAIN, VALID, TEST)]
    data = LabelledSplits("pairs", *(Labelled(p.texts, p.labels, [f"{{label}} {t}" for t in p.texts]) for p in pairs))
    reader = Reader(knowing)
    Prompts(data, template=Template("{label}: {text} / {pair}", WORDS))(reader)
    assert (reader.prompts[0][0].before, reader.prompts[0][0].after) == ("", ": one good film / {label} one good film")


def test_the_majority_has_every_number():
    evaluator = Prompts(DATA, template=Template("{text} {label}", WORDS, calibration=("N/A",), rank="byte"))
    majority = evaluator.majority()
    assert majority.primary_metric == "calibrated_accuracy_per_byte"
    assert majority.primary == majority.metrics["accuracy"] == 0.5


def test_a_model_that_cannot_write_the_words_is_an_empty_cell_with_the_reason():
    class Helpless:
        def score_words(self, prompts):
            raise Unable("its tokenizer has no token for the label word 'fine'")

    evaluators = {"zero_shot": Prompts(DATA, template=Template("{text} {label}", WORDS))}
    outcome = run_evaluators(evaluators, Helpless(), None)
    assert outcome.missing == {"zero_shot": "its tokenizer has no token for the label word 'fine'"}
    assert run_evaluators(evaluators, object(), None, kind="SimCLR").missing == {
        "zero_shot": "SimCLR ranks no words in a text"
    }


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"text": "{text} it was"}, "needs {text}, and {label} once"),
        ({"text": "{label} {label} {text}"}, "needs {text}, and {label} once"),
        ({"text": "it was {label}"}, "needs {text}, and {label} once"),
        ({"words": {"good": "fine"}}, "films: the label 'bad' has no word"),
        ({"words": WORDS | {"so so": "fair"}}, "no training text has the label 'so so'"),
        ({"words": {"good": "fine", "bad": "fine"}}, "two labels have the word 'fine'"),
        ({"words": {"good": "fine", "bad": " bad"}}, "has blanks around it"),
        ({"text": "{text} {pair} {label}"}, "the template has {pair}, but the data are single texts"),
        ({"shots": 13}, "13 shots need as many training texts, not 12"),
        ({"shots": -1}, "shots must be 0 or more"),
        ({"rank": "word"}, "rank 'word' is unknown: use sum, token, byte"),
    ],
)
def test_every_mistake_has_a_line(settings, complaint):
    with pytest.raises(UserError) as caught:
        Prompts(DATA, template=Template(**{"text": "{text} {label}", "words": WORDS} | settings))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


class Docs(ListCorpus):
    """Docstrings of 8 packages, the last two of which are small."""

    def documents(self, split):
        for i in range({"train": 400, "valid": 100, "test": 200}[split]):
            package = f"package{i % 8 if i < 40 else i % 6}"
            door = chr(97 + i // 26) + chr(97 + i % 26)
            yield Document(f"Open the {split} door {door} of {package} for whoever comes. Then close it.", package)
            yield Document("This is said of many packages.", package)
            yield Document("Too short. But with a second sentence.", package)


def test_the_suite_of_installed_docs_asks_for_packages_that_the_sentences_do_not_name(monkeypatch):
    monkeypatch.setattr(prompts_suite, "InstalledDocs", lambda: Docs([]))
    suite = prompts_suite.prompts_suite()
    assert list(suite.evaluators) == ["package.zero_shot", "package.few_shot_4"]
    assert not suite.texts
    evaluator = suite.evaluators["package.few_shot_4"]
    assert evaluator.data.classes == [f"package{i}" for i in range(6)]
    assert len(evaluator.data.test) == 120
    assert not any("package" in text for text in evaluator.data.texts)
    assert evaluator.majority().primary == pytest.approx(1 / 6)
    reader = Reader(lambda before, word: -float(len(word)))
    assert 0 <= evaluator(reader).primary <= 1
    assert suite.fingerprint == prompts_suite.prompts_suite().fingerprint
