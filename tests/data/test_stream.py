import json
from itertools import islice

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.corpora import HubDataset
from ssl_nlp.data import Pairs, TextDataModule
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.data.stream import StreamBatches
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import GROUP, maker_of
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM
from tests.corpus import ListCorpus

STORIES = [". ".join(f"S {i} {j}" for j in range(i % 4 + 1)) + "." for i in range(150)]


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer(TokenizerSettings(vocab_size=300), ListCorpus(STORIES))


def corpus(path, stories=STORIES, **settings):
    lines = [json.dumps({"text": text, "de": f"D {i}. E {i}."}) for i, text in enumerate(stories)]
    (path / "train.jsonl").write_text("\n".join(lines) + "\n")
    return HubDataset(str(path), valid=0.05, test=None, streaming=True, window=20, **settings)


def batches(corpus, tokenizer, unit, cursor=None, rank=0, ranks=1):
    cursors = {} if cursor is None else {0: cursor}
    return StreamBatches(corpus, tokenizer, maker_of(unit), 256, 2, rank, ranks, 0, cursors, turn=0)


def texts_of(batch, tokenizer):
    """(document, text) or (document, text, text) of each row."""
    parts = [batch] if batch.pair is None else [batch, batch.pair]
    decoded = [[tokenizer.decode(ids) for ids in part.input_ids.tolist()] for part in parts]
    return list(zip(batch.documents.tolist(), *decoded, strict=True))


@pytest.mark.parametrize("unit", ["block", "sentence", "pair"])
def test_a_resumed_stream_goes_on_as_it_would_have(tmp_path, tokenizer, unit):
    data = corpus(tmp_path)
    whole = list(islice(batches(data, tokenizer, unit), 2 * GROUP + 20))
    for done in (1, GROUP - 1, GROUP, GROUP + 7, 2 * GROUP):
        torch.save(whole[done - 1].cursor, tmp_path / "cursor.pt")
        cursor = torch.load(tmp_path / "cursor.pt", weights_only=True)
        for expected, batch in zip(whole[done : done + 15], batches(data, tokenizer, unit, cursor), strict=False):
            assert torch.equal(batch.input_ids, expected.input_ids)
            assert torch.equal(batch.starts_word, expected.starts_word)
            assert batch.cursor == expected.cursor
            if unit != "block":
                assert texts_of(batch, tokenizer) == texts_of(expected, tokenizer)


@pytest.mark.parametrize("unit", ["block", "sentence", "pair"])
def test_a_stream_knows_where_words_begin_as_a_corpus_on_disk_does(tmp_path, tokenizer, unit):
    """Otherwise `masking_unit: word` would hide single tokens."""
    stories = [f"Remarkable events happened {i}. Nobody understood them." for i in range(150)]
    for batch in islice(batches(corpus(tmp_path, stories), tokenizer, unit), 3):
        for part in [batch] if batch.pair is None else [batch, batch.pair]:
            words = part.starts_word[part.is_text]
            assert words.any()
            assert not words.all()
            if unit != "block":
                texts = [tokenizer.decode(ids) for ids in part.input_ids.tolist()]
                expected = [starts for _, starts in tokenizer.encode(texts)]
                assert [row[: len(e)] for row, e in zip(part.starts_word.tolist(), expected, strict=True)] == expected


@pytest.mark.parametrize("own", [False, True])
def test_pairs_of_a_stream_are_those_of_its_documents(tmp_path, tokenizer, own):
    data = corpus(tmp_path, pair="de" if own else None)
    story_of = {}
    for document in data.documents("train"):
        texts = Pairs().texts(document)
        story_of |= dict.fromkeys(zip(texts[::2], texts[1::2], strict=True), document.text)
    stories = {}
    for rank in range(2):
        for batch in islice(batches(data, tokenizer, "pair", rank=rank, ranks=2), GROUP):
            assert batch.documents.tolist() == batch.pair.documents.tolist()
            for number, *pair in texts_of(batch, tokenizer):
                stories.setdefault(number, set()).add(story_of[tuple(pair)])
    assert len(stories) > 50
    assert all(len(told) == 1 for told in stories.values())  # one number, one document


def test_every_sentence_once_an_epoch_over_two_readers(tmp_path, tokenizer):
    data = corpus(tmp_path)
    sentences = sorted(s for document in data.documents("train") for s in split_sentences(document.text))
    seen = []
    for rank in range(2):
        start = {"epoch": 0, "documents": None, "read": 0}
        for document in batches(data, tokenizer, "sentence").documents(start, rank, 2):
            if document.after["epoch"]:
                break
            seen += [tokenizer.decode(row.ids) for row in document.rows]
    assert sorted(seen) == sentences


def test_a_stream_without_pairs_is_refused_after_an_epoch(tmp_path, tokenizer):
    data = corpus(tmp_path, stories=[f"Only {i}." for i in range(40)])
    with pytest.raises(UserError, match=r"HubDataset\(.*\) .* has no pairs"):
        next(iter(batches(data, tokenizer, "pair")))


@pytest.mark.parametrize("unit", ["block", "sentence"])
@pytest.mark.parametrize("first", [3, 2 * GROUP + 40])  # in the first and in a later pass over the documents
def test_a_stream_goes_on_after_it_was_resumed_twice(tmp_path, tokenizer, unit, first):
    data = corpus(tmp_path, STORIES[:60])
    whole = list(islice(batches(data, tokenizer, unit), first + 25))
    passes = {batch.cursor["epoch"] for batch in whole}
    assert first == 3 or len(passes) > 1
    cursor, done = whole[first - 1].cursor, first
    for more in (7, 9):
        resumed = list(islice(batches(data, tokenizer, unit, cursor), more))
        for expected, batch in zip(whole[done : done + more], resumed, strict=True):
            assert torch.equal(batch.input_ids, expected.input_ids)
            assert torch.equal(batch.starts_word, expected.starts_word)
        cursor, done = resumed[-1].cursor, done + more


def test_an_epoch_that_the_trainer_ends_early_is_gone_on_from(tmp_path, tokenizer):
    stream = batches(corpus(tmp_path), tokenizer, "sentence")
    whole = list(islice(stream, 12))
    for batch in islice(stream, 5):
        stream.go_on_after(batch.cursor)
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(whole[5:], stream, strict=False))


def test_another_training_on_the_same_data_module_begins_with_the_same_documents(tmp_path):
    class Seen(Callback):
        def __init__(self):
            self.ids = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.ids.append(batch.input_ids.tolist())

    data = TextDataModule(corpus(tmp_path), TokenizerSettings(vocab_size=300), "block", length=16, batch_size=2, seed=0)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    first, second = Seen(), Seen()
    for seen in (first, second):
        method = MaskedLM(Transformer(size=None, dim=8, layers=1, heads=1, max_length=16))
        Trainer(accelerator="cpu", max_steps=2, limit_val_batches=0, callbacks=[seen], **quiet).fit(method, data)
    assert first.ids == second.ids
