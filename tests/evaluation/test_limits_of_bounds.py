"""Limits of bounds of whole texts add up to their exact probability, over all orders of a text and all lengths."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.units import pad_rows
from ssl_nlp.evaluation.limits import Limits
from ssl_nlp.objectives.predictions import Predictions, Unmaskings
from tests.evaluation.small_language import LANGUAGE, likelihood, tokenizer_of

LIMITS = Limits(LANGUAGE, tokenizer_of(LANGUAGE))
TOKENS = [ids[1] for ids, _ in LIMITS.tokenizer.encode(LANGUAGE.words)]
START = LIMITS.tokenizer.prefix[0]


def in_all_orders(rows: TokenBatch, text: range) -> Unmaskings:
    """A row with a mask for each subset of a text, weighted as the average over orders does."""
    subsets = [set(places) for k in range(1, len(text) + 1) for places in combinations(text, k)]
    hidden = torch.tensor([[[t in places for t in range(rows.input_ids.shape[1])]] for places in subsets])
    shares = torch.tensor(
        [len(subsets) / (len(places) * comb(len(text), len(places))) for places in subsets], dtype=torch.float64
    )
    return Unmaskings(rows, hidden, hidden * shares[:, None, None], torch.ones(1), torch.zeros(1))


@pytest.mark.parametrize("words", [[1, 0], [3, 0, 1], [2, 2, 0, 1]])
def test_the_bound_of_a_masked_diffusion_is_exact_on_average_over_orders(words):
    rows = pad_rows([[START, *(TOKENS[word] for word in words)]], None, LIMITS.tokenizer, 64)
    limit, unigram = LIMITS.nats(in_all_orders(rows, range(1, len(words) + 1)))
    exact = likelihood(LANGUAGE, words) * LANGUAGE.lengths[len(words)]
    assert float(limit) == pytest.approx(-np.log(exact), abs=1e-10)
    alone = [likelihood(LANGUAGE, [word]) * (1 - LANGUAGE.end_rate) for word in words]
    assert float(unigram) == pytest.approx(-np.log(alone).sum() - np.log(LANGUAGE.end_rate), abs=1e-10)


def lengths_of(whole: bool) -> np.ndarray:
    """The probability of each number of words of a document, or of the rest of one from any of its words on."""
    left = np.zeros(len(LANGUAGE.lengths))
    for length, share in enumerate(LANGUAGE.lengths):
        for start in [0] if whole else range(length):
            left[length - start] += share
    return left / left.sum()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_the_length_of_a_part_of_a_document_has_its_exact_probability(whole, ended, number):
    lengths = lengths_of(whole)
    probability = lengths[number] if ended else lengths[number + 1 :].sum()
    if number + whole == 0 or probability == 0:
        return  # no row has it
    ids = [*([START] if whole else []), *([TOKENS[2]] * number)]
    following = torch.tensor([[*ids[1:], START if ended else TOKENS[2]]])
    rows = TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64), following)
    nothing = torch.zeros(1, 1, len(ids))
    [limit], _ = LIMITS.nats(Unmaskings(rows, nothing.bool(), nothing, torch.ones(1), torch.zeros(1)))
    assert float(limit) == pytest.approx(-np.log(probability), abs=1e-10)


def test_each_document_of_a_packed_row_is_a_text_of_its_own():
    texts = [[START, TOKENS[1], TOKENS[0]], [START, TOKENS[3], TOKENS[3], TOKENS[1]]]
    alone = pad_rows(texts, None, LIMITS.tokenizer, 64)
    both = torch.tensor([texts[0] + texts[1]])
    segments = torch.tensor([[1] * 3 + [2] * 4])
    following = torch.cat([alone.next_ids[0, :3], alone.next_ids[1]])[None]
    packed = TokenBatch(both, segments, following)
    hidden = torch.tensor([[[False, True, False, False, True, False, True]]])
    parts = torch.tensor([[[False, True, False, False], [False, True, False, True]]])
    for together, each in zip(
        LIMITS.nats(Unmaskings(packed, hidden, 2 * hidden, torch.ones(1), torch.zeros(1))),
        LIMITS.nats(Unmaskings(alone, parts, 2 * parts, torch.ones(2), torch.zeros(2))),
        strict=True,
    ):
        assert float(together) == pytest.approx(float(each.sum()), abs=1e-10)


def test_a_loss_per_sentence_counts_each_row_once():
    rows = pad_rows([[START, TOKENS[1], TOKENS[0]], [START, TOKENS[1]]], None, LIMITS.tokenizer, 64)
    nothing = torch.full_like(rows.next_ids, IGNORE_INDEX)
    assert Predictions(rows, rows.next_ids, torch.zeros(2)).number.tolist() == [3, 2]
    assert Predictions(rows, rows.next_ids, torch.zeros(2), per_row=True).number.tolist() == [1, 1]
    assert Predictions(rows, nothing, torch.zeros(2), per_row=True).number.tolist() == [0, 0]
