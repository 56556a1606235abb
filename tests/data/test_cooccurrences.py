"""Counts of words near each other against a loop over the text."""

import math
from collections import defaultdict

import pytest
import torch

from ssl_nlp.data import Blocks, Cooccurrences, TextDataModule, cooccurrences
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.errors import UserError
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(20, longest=12))
SETTINGS = TokenizerSettings(vocab_size=320)


def counted(tokenizer, window: int) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = defaultdict(float)
    for ids, _ in tokenizer.encode(list(CORPUS.texts["train"])):
        words = [token for token in ids if token not in tokenizer.special_ids]
        for i, first in enumerate(words):
            for j in range(max(0, i - window), min(len(words), i + window + 1)):
                if i != j:
                    found[first, words[j]] += 1 / abs(i - j)
    return found


@pytest.mark.parametrize("window", [1, 3, 30])
@pytest.mark.parametrize("part", [1, 7, 10**6])
def test_each_entry_is_the_sum_of_inverse_distances_within_documents(window, part, monkeypatch):
    monkeypatch.setattr(cooccurrences, "PART", part)
    tokenizer = get_tokenizer(SETTINGS, CORPUS)
    store = open_store(CORPUS, "train", tokenizer, Blocks())
    matrix = cooccurrences.count(store, tokenizer.special_ids, tokenizer.vocab_size, window).tocoo()
    found = {(int(i), int(j)): float(x) for i, j, x in zip(*matrix.coords, matrix.data, strict=True)}
    assert found == pytest.approx(counted(tokenizer, window))


def test_an_epoch_has_every_entry_once_and_a_streamed_corpus_is_refused():
    data = TextDataModule(CORPUS, SETTINGS, Cooccurrences(window=2), batch_size=16, seed=0)
    entries = {}
    for batch in data.train_dataloader():
        assert batch.input_ids.shape == (len(batch), 2) and batch.n_tokens == 2 * len(batch)
        entries |= {
            tuple(pair): count for pair, count in zip(batch.input_ids.tolist(), batch.counts.tolist(), strict=True)
        }
        assert torch.equal(batch.to("cpu").clone().counts, batch.counts)
    assert entries == pytest.approx(counted(data.tokenizer, 2), rel=1e-6)
    assert len(entries) == len(data.rows("train"))
    assert math.isclose(sum(entries.values()), sum(counted(data.tokenizer, 2).values()), rel_tol=1e-5)
    with pytest.raises(UserError, match="set corpus.streaming to false"):
        Cooccurrences().stream([], {}, data.tokenizer, 8, 4, [0], None)


def test_words_that_stand_alone_and_windows_of_nothing_are_refused():
    with pytest.raises(UserError, match="window must be at least 1"):
        TextDataModule(CORPUS, SETTINGS, Cooccurrences(window=0)).rows("train")
    alone = ListCorpus(["a", "b", "a"])
    with pytest.raises(UserError, match="no two words stand near each other"):
        TextDataModule(alone, TokenizerSettings(kind="char", vocab_size=320), "cooccurrence").rows("train")
