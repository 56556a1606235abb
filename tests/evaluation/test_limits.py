"""Limits are compared with sums over all documents, masks and random tokens."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.tokenizer import train
from ssl_nlp.data.units import pad_rows
from ssl_nlp.evaluation.excess import Excess, ExcessSums
from ssl_nlp.evaluation.limits import Limits
from ssl_nlp.objectives.predictions import Corruption, Predictions
from ssl_nlp.objectives.scores import Unable
from tests.evaluation import small_language
from tests.evaluation.small_language import LANGUAGE, tokenizer_of

EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(scope="module")
def language() -> HiddenMarkovLanguage:
    return LANGUAGE


@pytest.fixture(scope="module")
def limits(language: HiddenMarkovLanguage) -> Limits:
    return Limits(language, tokenizer_of(language))


def likelihood(limits: Limits, words: Sequence[int]) -> float:
    return small_language.likelihood(limits.language, words)


def words_of(limits: Limits, ids: list[int]) -> list[int]:
    known = limits.tokenizer.encode(limits.language.words)
    return [next(w for w, (found, _) in enumerate(known) if found[-1] == token) for token in ids]


def next_tokens(batch: TokenBatch) -> Predictions:
    assert batch.next_ids is not None
    return Predictions(batch, batch.next_ids, torch.zeros(len(batch)))


def test_the_limit_of_whole_documents_is_their_probability_with_that_of_their_length(language, limits):
    texts = [document.text for document in language.documents("train")][:40]
    rows = [ids for ids, _ in limits.tokenizer.encode(texts)]
    [whole, unigram] = limits.nats(next_tokens(pad_rows(rows, None, limits.tokenizer, 64)))
    [cut, _] = limits.nats(next_tokens(pad_rows(rows, None, limits.tokenizer, 3)))
    ends = 1 / (1 + language.lengths @ np.arange(6))
    for number, ids in enumerate(rows):
        words = words_of(limits, ids[1:])
        expected = likelihood(limits, words) * language.lengths[len(words)]
        assert float(whole[number]) == pytest.approx(-np.log(expected), abs=1e-10)
        alone = [np.log(likelihood(limits, [word]) * (1 - ends)) for word in words]
        assert float(unigram[number]) == pytest.approx(-sum(alone) - np.log(ends), abs=1e-10)
        # A row that is cut predicts the next word, too.
        at_least = language.lengths[3:].sum() if len(words) > 2 else language.lengths[2]
        assert float(cut[number]) == pytest.approx(-np.log(likelihood(limits, words[:3]) * at_least), abs=1e-10)


def test_the_limit_of_packed_rows_knows_what_their_parts_of_documents_show(language, limits):
    """A part whose beginning is in an earlier row may be any part of any document."""
    data = TextDataModule(language, TokenizerSettings("word"), unit="block", length=7, batch_size=8)
    exact = Limits(language, data.tokenizer)
    batch = data.rows("train")[range(8)]
    [found, _] = exact.nats(next_tokens(batch))
    prefix, end = data.tokenizer.prefix[0], data.tokenizer.end_id
    lengths = language.lengths
    for row in range(8):
        total, ids = 0.0, batch.input_ids[row].tolist()
        starts = [place for place, token in enumerate(ids) if token == prefix]
        for start, stop in zip(sorted({0, *starts}), [*(s for s in starts if s), 7], strict=True):
            part, following = ids[start:stop], batch.next_ids[row, start:stop].tolist()
            shown = following if part[0] == prefix else [part[0], *following]
            words = words_of(exact, [token for token in shown if token != end])
            size, ended = len(words), shown[-1] == end
            if part[0] == prefix:
                places = lengths[size] if ended else lengths[size:].sum()
                total -= np.log(likelihood(exact, words) * places)
                continue
            pairs = [(n - place, p) for n, p in enumerate(lengths) for place in range(n)]  # words left, and how likely
            fits = sum(p for left, p in pairs if (left == size if ended else left >= size))
            total -= np.log(fits / sum(p for _, p in pairs))
            total -= np.log(likelihood(exact, words) / likelihood(exact, words[:1]))
        assert float(found[row]) == pytest.approx(total, abs=1e-10)
    assert any(batch.input_ids[row, 0] != prefix for row in range(8))


@pytest.mark.parametrize("context", [0, 1, 2, 9])
def test_the_limit_of_a_short_context_knows_that_many_words_and_where_it_is(limits, context):
    words, lengths = [1, 0, 3, 2], limits.language.lengths
    row = [limits.tokenizer.encode([" ".join(limits.language.words[word] for word in words)])[0][0]]
    batch = pad_rows(row, None, limits.tokenizer, 64)
    expected = lengths[4]
    for t, word in enumerate(words):
        before = words[max(0, t - context) : t]
        expected *= likelihood(limits, [*before, word]) / likelihood(limits, before)
    [found, _] = limits.nats(replace(next_tokens(batch), context=context))
    assert float(found[0]) == pytest.approx(-np.log(expected), abs=1e-10)


def corrupted(x, chosen, rate, replaced, kept, allowed) -> dict[tuple[int, ...], float]:
    """The probability of each corrupted form of x, with -1 for the mask, together with that these places are chosen."""
    options = []
    for word, hidden in zip(x, chosen, strict=True):
        if not hidden:
            options.append([(word, 1 - rate)])
            continue
        forms = [(-1, 1 - replaced - kept), (word, kept)] + [(other, replaced / len(allowed)) for other in allowed]
        options.append([(form, rate * p) for form, p in forms])
    found: dict[tuple[int, ...], float] = {}
    for outcome in product(*options):
        key = tuple(form for form, _ in outcome)
        found[key] = found.get(key, 0.0) + float(np.prod([p for _, p in outcome]))
    return found


@pytest.mark.parametrize(("replaced", "kept", "allowed"), [(0.1, 0.1, [0, 1, 2, 3]), (0.3, 0, [1, 2]), (0, 0, [0])])
def test_the_limit_of_masked_tokens_is_bayes_rule_over_all_texts_and_masks(limits, replaced, kept, allowed):
    rate, size = 0.4, 3
    texts = list(product(range(4), repeat=size))
    prior = {x: likelihood(limits, list(x)) for x in texts}
    seen: dict[tuple[int, ...], dict[tuple, float]] = {}
    for x in texts:
        for chosen in product([False, True], repeat=size):
            for y, p in corrupted(x, chosen, rate, replaced, kept, allowed).items():
                seen.setdefault(y, {})[x, chosen] = prior[x] * p
    tokens = limits.tokenizer
    token_of = [ids[1] for ids, _ in tokens.encode(limits.language.words)] + [tokens.mask_id]
    rows, targets, expected = [], [], []
    for y, causes in list(seen.items())[::3]:
        x, chosen = max(causes, key=lambda cause: causes[cause] * any(cause[1]))  # the likeliest cause with a target
        nats = 0.0
        for place in range(size):
            if chosen[place]:
                known = {cause: p for cause, p in causes.items() if cause[1][place]}
                right = sum(p for cause, p in known.items() if cause[0][place] == x[place])
                nats -= np.log(right / sum(known.values()))
        rows.append([tokens.prefix[0], *(token_of[word] for word in y)])
        targets.append([IGNORE_INDEX, *(token_of[w] if c else IGNORE_INDEX for w, c in zip(x, chosen, strict=True))])
        expected.append(nats)
    replacements = torch.zeros(tokens.vocab_size, dtype=torch.bool)
    replacements[[token_of[word] for word in allowed]] = True
    batch = pad_rows(rows, None, tokens, 64)
    corruption = Corruption(rate, replaced, kept, replacements)
    [found, _] = limits.nats(Predictions(batch, torch.tensor(targets), torch.zeros(len(rows)), corruption))
    np.testing.assert_allclose(found.numpy(), expected, **EXACT)


def test_a_tokenizer_of_pieces_has_no_limits_and_one_without_a_word_only_for_other_text(language, limits):
    pieces = Tokenizer(train(TokenizerSettings("char"), lambda: iter(language.words)))
    with pytest.raises(Unable, match="kind to word"):
        Limits(language, pieces)
    fewer = Limits(language, tokenizer_of(language, words=3))
    for text, known in (("baba biba baba", True), ("baba boba", False)):
        batches = [
            pad_rows([each.tokenizer.encode([text])[0][0]], None, each.tokenizer, 64) for each in (fewer, limits)
        ]
        if known:
            found, expected = (each.nats(next_tokens(b)) for each, b in zip((fewer, limits), batches, strict=True))
            np.testing.assert_allclose(torch.stack(found), torch.stack(expected), **EXACT)
        else:
            with pytest.raises(Unable, match="<unk> is not a word of HiddenMarkovLanguage: raise"):
                fewer.nats(next_tokens(batches[0]))


def test_excess_and_its_standard_error_are_those_of_a_ratio_of_sums():
    random = np.random.default_rng(0)
    targets = random.integers(1, 20, 4000)
    limit = random.gamma(3.0, size=4000) * targets
    loss = limit + 0.5 * targets + random.normal(size=4000) * np.sqrt(targets)
    sums = ExcessSums()
    for part in np.split(np.arange(4000), [100, 2000]):
        sums.add(*(torch.tensor(column[part]) for column in (loss, limit, 2 * limit, targets)))
    excess = sums.excess()
    assert excess.loss == pytest.approx(loss.sum() / targets.sum())
    assert excess.nats == pytest.approx(0.5, abs=0.03)
    assert excess.gap_closed == pytest.approx((2 * limit.sum() - loss.sum()) / limit.sum())
    drawn = [random.integers(0, 4000, 4000) for _ in range(300)]  # the bootstrap's standard error
    bootstrap = np.std([(loss - limit)[rows].sum() / targets[rows].sum() for rows in drawn])
    assert excess.standard_error == pytest.approx(bootstrap, rel=0.15)
    assert ExcessSums().excess() is None


def test_only_a_loss_far_below_its_limit_is_impossible():
    assert Excess(1.0, 1.03, 2.0, 0.01, 100).impossible is None
    assert "the loss 1.0000 is below 1.0500" in Excess(1.0, 1.05, 2.0, 0.01, 100).impossible
    assert Excess(1.0, 1.05, 2.0, 0.01, 10).impossible is None  # too few rows to know the standard error
    assert Excess(1.0, 1.00001, 2.0, 0.0, 100).impossible is None  # rounding
