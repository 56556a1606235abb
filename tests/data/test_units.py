import itertools

import numpy as np
import pytest
import torch

from ssl_nlp.data import Blocks, Pairs, Sentences, TextDataModule
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.sampler import BatchSampler
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer, load_pretrained
from ssl_nlp.data.units import item_sizes
from ssl_nlp.errors import UserError
from tests.corpus import ListCorpus, caption_texts, padding_share, random_texts

TEXTS = random_texts(30)


def rows_of(maker, corpus, tokenizer, length):
    return maker.rows(open_store(corpus, "train", tokenizer, maker), tokenizer, length)


@pytest.fixture(scope="module")
def corpus():
    return ListCorpus(TEXTS)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return get_tokenizer(TokenizerSettings(vocab_size=320), corpus)


@pytest.fixture(scope="module")
def stream(tokenizer):
    """The tokens that the blocks must hold: every framed document in turn."""
    return [ids for ids, _ in tokenizer.encode(TEXTS)]


@pytest.mark.parametrize("length", [2, 7, 16, 1000, 5000])
def test_blocks_hold_every_token_once_and_pad_only_the_last_row(corpus, tokenizer, stream, length):
    blocks = rows_of(Blocks(), corpus, tokenizer, length)
    batch = blocks[range(len(blocks))]
    flat = [token for document in stream for token in document]
    assert batch.input_ids[batch.is_text].tolist() == flat
    assert bool(batch.is_text[:-1].all())
    assert batch.n_tokens == len(flat)
    assert batch.padded == (len(flat) % length > 0)


@pytest.mark.parametrize("length", [2, 7, 16, 1000])
def test_segments_and_next_tokens_agree_with_a_walk_over_the_stream(corpus, tokenizer, stream, length):
    blocks = rows_of(Blocks(), corpus, tokenizer, length)
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
    rows = rows_of(Sentences(), corpus, tokenizer, length)
    assert len(rows) == 4
    batch = rows[[0, 2]]
    pad = length - len(short)
    assert batch.input_ids.tolist() == [long[:length], short + [tokenizer.pad_id] * pad]
    assert batch.segment_ids.tolist() == [[1] * length, [1] * len(short) + [0] * pad]
    assert batch.next_ids is not None
    assert batch.next_ids.tolist() == [long[1:], [*short[1:], tokenizer.end_id] + [-100] * pad]
    assert (batch.packed, batch.padded, batch.n_tokens) == (False, True, length + len(short))
    assert batch.documents is not None
    assert batch.documents.tolist() == [0, 0]
    assert rows[[3, 1]].documents.tolist() == [1, 0]
    assert batch.pair is None


# Documents of 1 to 7 numbered sentences; some have a pair of their own.
STORIES = [". ".join(f"S {i} {j}" for j in range(i % 7 + 1)) + "." for i in range(60)]
PAIRED = [(text, f"Q {i}. R {i}.") if i % 5 == 0 else text for i, text in enumerate(STORIES)]


def all_pairs(documents):
    """Every pair by a walk over the documents."""
    pairs = []
    for i, document in enumerate(documents):
        texts = list(document) if isinstance(document, tuple) else split_sentences(document)
        while len(texts) > 1:
            pairs.append((i, texts.pop(0), texts.pop(0)))
    return pairs


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A pretrained tokenizer, which has a frame at both ends."""
    from transformers import BertTokenizerFast

    path = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *"sqr0123456789", *(f"##{i}" for i in range(10))]
    (path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    return load_pretrained(str(path))


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epoch_has_every_pair_once_and_no_pair_crosses_documents(ranks, tokenizer):
    pairs = rows_of(Pairs(), ListCorpus(PAIRED), tokenizer, 256)
    seen = []
    for rank in range(ranks):
        for rows in BatchSampler(len(pairs), pairs.sizes, 4, rank, ranks, seed=1, shuffle=True):
            batch = pairs[rows]
            assert batch.documents.tolist() == batch.pair.documents.tolist()
            decoded = [[tokenizer.decode(ids) for ids in part.input_ids.tolist()] for part in (batch, batch.pair)]
            seen += zip(batch.documents.tolist(), *decoded, strict=True)
    assert sorted(seen) == sorted(all_pairs(PAIRED))
    sentences = list(itertools.chain(*(texts for _, *texts in seen)))
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("frame", ["ours", "bert"])
@pytest.mark.parametrize("length", [5, 12, 64])
def test_both_texts_of_a_pair_are_framed_padded_and_cut_to_half_the_length(frame, length, request):
    tokenizer = request.getfixturevalue({"ours": "tokenizer", "bert": "bert"}[frame])
    pairs = rows_of(Pairs(), ListCorpus(PAIRED), tokenizer, length)
    expected = all_pairs(PAIRED)
    rows = [0, len(pairs) - 1, 3]
    batch = pairs[rows]
    for side, part in enumerate((batch, batch.pair), start=1):
        framed = [tokenizer.encode([expected[row][side]])[0] for row in rows]
        kept = [ids[: length // 2] for ids, _ in framed]
        width = max(map(len, kept))
        assert part.input_ids.tolist() == [ids + [tokenizer.pad_id] * (width - len(ids)) for ids in kept]
        assert part.is_text.sum(dim=1).tolist() == list(map(len, kept))
        assert part.n_tokens == sum(map(len, kept))
        assert [words[: len(ids)] for words, ids in zip(part.starts_word.tolist(), kept, strict=True)] == [
            words[: length // 2] for _, words in framed
        ]
        assert not part.packed
        assert part.input_ids[:, 0].tolist() == [tokenizer.prefix[0]] * len(rows)
    assert batch.input_ids.shape[1] + batch.pair.input_ids.shape[1] <= length
    assert batch.all_tokens == int(batch.is_text.sum() + batch.pair.is_text.sum())


def test_batches_of_sentences_have_little_padding(tokenizer):
    lines = [text for text, _ in caption_texts(10_000)]
    rows = rows_of(Sentences(), ListCorpus(lines), tokenizer, 256)
    batches = list(BatchSampler(len(rows), rows.sizes, 64, 0, 1, 0, True))
    parts = [rows[batch] for batch in batches]
    share = 1 - sum(part.all_tokens for part in parts) / sum(part.all_positions for part in parts)
    assert share == pytest.approx(padding_share(rows.sizes, batches))
    assert share < 0.05


def test_pairs_are_sorted_by_their_longer_text_and_then_by_both():
    pairs = [(9, 1), (3, 3), (1, 4), (4, 4), (8, 8), (2, 9), (4, 2)]
    sizes = item_sizes(np.array(pairs))
    assert [pairs[i] for i in np.argsort(sizes)] == sorted(pairs, key=lambda pair: (max(pair), sum(pair)))


def test_batches_of_pairs_have_little_padding_apart_and_joined(tokenizer):
    """Apart, where both texts of all pairs make one batch; joined, where the two of a pair make one row."""
    corpus = ListCorpus(caption_texts(10_000))
    pairs = rows_of(Pairs(), corpus, tokenizer, 256)
    apart = joined = tokens = 0
    for rows in BatchSampler(len(pairs), pairs.sizes, 64, 0, 1, 0, True):
        batch = pairs[rows]
        sizes = torch.stack([batch.is_text.sum(dim=1), batch.pair.is_text.sum(dim=1)])
        tokens += int(sizes.sum())
        apart += 2 * len(rows) * int(sizes.max())
        joined += len(rows) * int(sizes.sum(dim=0).max())
    assert 1 - tokens / apart < 0.13
    assert 1 - tokens / joined < 0.1


def test_the_second_text_of_a_pair_may_have_a_length_of_its_own(tokenizer):
    pairs = ListCorpus(caption_texts(20))
    rows = rows_of(Pairs(pair_length=4), pairs, tokenizer, 16)
    batch = rows[range(20)]
    lengths = np.array([[len(ids) for ids, _ in tokenizer.encode(list(pair))] for pair in caption_texts(20)])
    assert batch.is_text.sum(dim=1).tolist() == np.minimum(lengths[:, 0], 12).tolist()
    assert batch.pair.is_text.sum(dim=1).tolist() == np.minimum(lengths[:, 1], 4).tolist()
    with pytest.raises(
        UserError, match="pair_length must be between 2 and 14, because data.length 16 is for both texts"
    ):
        TextDataModule(pairs, unit=Pairs(pair_length=15), length=16)
