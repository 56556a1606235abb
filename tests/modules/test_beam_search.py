"""Beam search over models that are tables: the probability of a token depends on those before it, in any way."""

import itertools
import math
import random
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ssl_nlp.errors import UserError
from ssl_nlp.modules import BeamSearch

END, VOCAB = 0, 3


class Table:
    """Stands for a `Continuation`: each row has probabilities of its own, and a history that `select` must keep right."""

    def __init__(self, rows: int, seed: int = 0, vocab: int = VOCAB) -> None:
        self.tokenizer = SimpleNamespace(end_id=END, vocab_size=vocab)
        self.device = torch.device("cpu")
        self.seed = seed
        self.histories = [(row, ()) for row in range(rows)]  # the number of the source, and the tokens so far
        self.asked: list[int] = []  # how many rows there were at each step

    def log_p(self, source: int, history: tuple[int, ...]) -> list[float]:
        generator = random.Random(f"{self.seed} {source} {history}")
        weights = [generator.random() ** 2 for _ in range(self.tokenizer.vocab_size)]
        return [math.log(weight / sum(weights)) for weight in weights]

    def logits(self) -> Tensor:
        self.asked.append(len(self.histories))
        return torch.tensor([self.log_p(*history) for history in self.histories])

    def select(self, rows: Tensor, sources: Tensor | None = None) -> None:
        self.histories = [self.histories[row] for row in rows.tolist()]

    def append(self, ids: Tensor) -> None:
        kept = zip(self.histories, ids.tolist(), strict=True)
        self.histories = [(source, (*tokens, new)) for (source, tokens), new in kept]


def score(table: Table, source: int, tokens: tuple[int, ...], alpha: float) -> float:
    """log p of tokens and end, divided by GNMT's length penalty."""
    steps = zip(itertools.accumulate(((token,) for token in tokens), initial=()), (*tokens, END), strict=True)
    return sum(table.log_p(source, before)[token] for before, token in steps) / ((5 + len(tokens) + 1) / 6) ** alpha


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_enough_beams_find_the_best_of_all_continuations(seed, alpha):
    longest = [4, 0, 3, 1]
    table = Table(len(longest), seed)
    found = BeamSearch(beams=200, length_penalty=alpha).scored(table, longest)
    for source, limit in enumerate(longest):
        every = [tokens for n in range(limit + 1) for tokens in itertools.product(range(1, VOCAB), repeat=n)]
        tokens, log_p = tuple(found[source][0]), found[source][1]
        assert tokens == max(every, key=lambda tokens: score(table, source, tokens, alpha))
        assert log_p == pytest.approx(score(table, source, tokens, alpha=0), rel=1e-5)


@pytest.mark.parametrize("beams", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_few_beams_find_what_a_slow_search_of_one_text_finds(seed, beams):
    longest, alpha = [6, 3, 7], 0.6
    table = Table(len(longest), seed, vocab=6)
    found = BeamSearch(beams=beams, length_penalty=alpha).search(table, longest)
    for source, limit in enumerate(longest):
        live, done = [((), 0.0)], []
        for step in range(limit + 1):
            tokens = [END] if step == limit else range(6)
            more = [((*before, t), p + table.log_p(source, before)[t]) for before, p in live for t in tokens]
            more.sort(key=lambda candidate: -candidate[1])
            ended = [
                (tokens[:-1], p / ((5 + step + 1) / 6) ** alpha)
                for tokens, p in more[: beams - len(done)]
                if tokens[-1] == END
            ]
            done += ended
            live = [candidate for candidate in more if candidate[0][-1] != END][: beams - len(done)]
        assert tuple(found[source]) == max(done, key=lambda candidate: candidate[1])[0]


def test_one_beam_is_greedy_and_rows_that_are_done_cost_nothing():
    longest = [8] * 6
    table = Table(len(longest), vocab=4)
    found = BeamSearch(beams=1).search(table, longest)
    lengths = []
    for source in range(len(longest)):
        tokens: tuple[int, ...] = ()
        while len(tokens) < 8 and (best := max(range(4), key=lambda t: table.log_p(source, tokens)[t])) != END:
            tokens += (best,)
        assert tuple(found[source]) == tokens
        lengths.append(len(tokens))
    assert len(set(lengths)) > 2
    assert table.asked == [sum(length >= step for length in lengths) for step in range(max(lengths) + 1)]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_n_gram_is_repeated(size):
    """The oracle takes the best of all continuations that repeat none."""
    table, longest, alpha = Table(6), 5, 9.0
    found = BeamSearch(beams=400, length_penalty=alpha, no_repeat_ngram=size).search(table, [longest] * 6)
    every = [tokens for n in range(longest + 1) for tokens in itertools.product(range(1, VOCAB), repeat=n)]
    without = [tokens for tokens in every if len(set(ngrams(tokens, size))) == len(ngrams(tokens, size))]
    for source, tokens in enumerate(found):
        assert tuple(tokens) == max(without, key=lambda tokens: score(table, source, tokens, alpha))
    plain = BeamSearch(beams=400, length_penalty=alpha).search(Table(6), [longest] * 6)
    assert any(len(ngrams(tokens, size)) > len(set(ngrams(tokens, size))) for tokens in plain)


def ngrams(tokens, size):
    return list(zip(*(tokens[i:] for i in range(size)), strict=False))


def test_the_longest_output_follows_the_source():
    search = BeamSearch(max_new_tokens=40, source_ratio=1.5)
    assert [search.longest(n) for n in (0, 1, 10, 19, 20, 500)] == [10, 12, 25, 39, 40, 40]


def test_settings_are_checked_together():
    with pytest.raises(
        UserError, match="search: beams must be 1 or more, not 0; length_penalty must be 0 or more, not -1"
    ):
        BeamSearch(beams=0, length_penalty=-1)


class Sure(Table):
    """Certain of a long text; two short ones are bad, and end early."""

    def log_p(self, source: int, history: tuple[int, ...]) -> list[float]:
        probabilities = [1e-4, 1e-4, 1 - 2e-4]
        if history and history[-1] == 1:
            probabilities = [0.98, 0.01, 0.01]
        elif len(history) == 8:
            probabilities = [0.9998, 1e-4, 1e-4]
        return [math.log(probability) for probability in probabilities]


def test_bad_short_texts_do_not_end_the_search_of_a_good_long_one():
    assert BeamSearch(beams=2).search(Sure(1), [10]) == [[2] * 8]
