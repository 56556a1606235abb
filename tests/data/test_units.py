import pytest
import torch

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import Blocks, Sentences
from tests.corpus import ListCorpus, random_texts

TEXTS = random_texts(30)


@pytest.fixture(scope="module")
def corpus():
    return ListCorpus(TEXTS)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return get_tokenizer(TokenizerSettings(vocab_size=320), corpus)


@pytest.fixture(scope="module")
def stream(tokenizer):
    """What the blocks must hold: every framed document in turn."""
    return [ids for ids, _ in tokenizer.encode(TEXTS)]


@pytest.mark.parametrize("length", [2, 7, 16, 1000, 5000])
def test_blocks_hold_every_token_once_and_pad_only_the_last_row(corpus, tokenizer, stream, length):
    blocks = Blocks(open_store(corpus, "train", tokenizer, "block"), tokenizer, length)
    batch = blocks[range(len(blocks))]
    flat = [token for document in stream for token in document]
    assert batch.input_ids[batch.is_text].tolist() == flat
    assert bool(batch.is_text[:-1].all())
    assert batch.n_tokens == len(flat)
    assert batch.padded == (len(flat) % length > 0)


@pytest.mark.parametrize("length", [2, 7, 16, 1000])
def test_segments_and_next_tokens_agree_with_a_walk_over_the_stream(corpus, tokenizer, stream, length):
    blocks = Blocks(open_store(corpus, "train", tokenizer, "block"), tokenizer, length)
    document_of = [i for i, document in enumerate(stream) for _ in document]
    flat = [token for document in stream for token in document]
    for row in range(len(blocks)):
        batch = blocks[[row]]
        window = range(row * length, min((row + 1) * length, len(flat)))
        first = document_of[window[0]]
        assert batch.segment_ids[0, : len(window)].tolist() == [document_of[t] - first + 1 for t in window]
        following = [flat[t + 1] if t + 1 < len(flat) else tokenizer.end_id for t in window]
        assert batch.next_ids is not None
        assert batch.next_ids[0, : len(window)].tolist() == following
        assert batch.packed == (len({document_of[t] for t in window}) > 1)


def test_positions_restart_with_every_document():
    segments = torch.tensor([[1, 1, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2]])
    batch = TokenBatch(torch.zeros_like(segments), segments)
    assert batch.positions().tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 0, 1]]


def test_sentences_are_truncated_padded_and_predict_their_end(tokenizer):
    long, short = (ids for ids, _ in tokenizer.encode(["A dog sees a cat.", "the"]))
    length = len(long) - 1
    corpus = ListCorpus(["A dog sees a cat. The cat sees the dog.\nthe", "the red house"])
    rows = Sentences(open_store(corpus, "train", tokenizer, "sentence"), tokenizer, length)
    assert len(rows) == 4
    batch = rows[[0, 2]]
    pad = length - len(short)
    assert batch.input_ids.tolist() == [long[:length], short + [tokenizer.pad_id] * pad]
    assert batch.segment_ids.tolist() == [[1] * length, [1] * len(short) + [0] * pad]
    assert batch.next_ids is not None
    assert batch.next_ids.tolist() == [long[1:], [*short[1:], tokenizer.end_id] + [-100] * pad]
    assert (batch.packed, batch.padded, batch.n_tokens) == (False, True, length + len(short))
