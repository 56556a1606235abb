"""Streams have the labels of a corpus on disk, and resume with them."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch

from ssl_nlp.corpora import HubDataset
from ssl_nlp.data import TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.labels import KINDS
from ssl_nlp.data.stream import StreamBatches
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import GROUP, maker_of
from ssl_nlp.errors import UserError
from tests.data.labelled import LABELS, TEXTS, Labelled, module, rows_of, tags_of


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer(TokenizerSettings(vocab_size=320), Labelled("class"))


class LabelledHub(HubDataset):
    """A stream whose labels are told by the text."""

    def __init__(self, kind, path):
        super().__init__(str(path), valid=0.05, test=None, streaming=True, window=20)
        self.kind = kind

    def _to_document(self, record, class_names):
        document = super()._to_document(record, class_names)
        return replace(document, label=LABELS[self.kind](document.text))


CLASSES = {"class": ["even", "odd"], "score": None, "tags": ["LOC", "O", "PER"], "spans": ["LOC", "PER"]}


def stream(kind, unit, path, tokenizer, cursor=None, labelled=True):
    (path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    labels = KINDS[kind](CLASSES[kind]) if labelled else None
    cursors = {} if cursor is None else {0: cursor}
    return StreamBatches(LabelledHub(kind, path), tokenizer, maker_of(unit), 64, 2, 0, 1, 0, cursors, 0, labels)


def labels_by_text(batches, tokenizer):
    found = {}
    for text, ids, label in rows_of(batches, tokenizer):
        numbers = label.tolist()
        if label.ndim == 1:
            numbers = numbers[: len(ids)]
        elif label.ndim == 2:
            numbers = [span for span in numbers if span[0] != IGNORE_INDEX]
        found[text] = numbers
    return found


@pytest.mark.parametrize("unit", ["sentence", "pair"])
@pytest.mark.parametrize("kind", LABELS)
def test_a_stream_has_the_labels_of_a_corpus_on_disk_and_resumes_with_them(kind, unit, tmp_path, tokenizer):
    batches = list(islice(stream(kind, unit, tmp_path, tokenizer), GROUP + 10))
    data = module(kind, unit=unit)
    stored = labels_by_text(data.train_dataloader(), tokenizer)
    for text, numbers in labels_by_text(batches, tokenizer).items():
        assert numbers == pytest.approx(stored[text]) if kind == "score" else numbers == stored[text]
    unlabelled = next(iter(stream(kind, unit, tmp_path, tokenizer, labelled=False)))
    assert unlabelled.labels is None
    torch.save(batches[GROUP + 2].cursor, tmp_path / "cursor.pt")
    cursor = torch.load(tmp_path / "cursor.pt", weights_only=True)
    resumed = stream(kind, unit, tmp_path, tokenizer, cursor)
    for expected, batch in zip(batches[GROUP + 3 :], resumed, strict=False):
        assert torch.equal(batch.input_ids, expected.input_ids)
        assert torch.equal(batch.labels, expected.labels)


def test_a_packed_stream_keeps_tags_at_their_tokens_and_resumes_with_them(tmp_path, tokenizer):
    batches = list(islice(stream("tags", "block", tmp_path, tokenizer), 9))
    for batch in batches:
        for ids, segments, tags in zip(batch.input_ids, batch.segment_ids, batch.labels, strict=True):
            for segment in segments.unique()[1:-1].tolist():  # documents that lie in the row as a whole
                text = tokenizer.decode(ids[segments == segment].tolist())
                expected = [CLASSES["tags"].index(tag) for tag in tags_of(text)]
                assert [tag for tag in tags[segments == segment].tolist() if tag != IGNORE_INDEX] == expected
    resumed = stream("tags", "block", tmp_path, tokenizer, batches[3].cursor)
    for expected, batch in zip(batches[4:], resumed, strict=False):
        assert torch.equal(batch.labels, expected.labels)


def test_a_stream_needs_the_list_of_its_classes(tmp_path):
    stream("class", "sentence", tmp_path, None)
    with pytest.raises(UserError, match="list them in data.classes"):
        module("class", LabelledHub("class", tmp_path)).store("valid")
    data = module("class", LabelledHub("class", tmp_path), classes=["odd", "even"])
    assert data.class_names == ["odd", "even"]
    assert set(data.store("valid").labels.class_names) == {"even", "odd"}
