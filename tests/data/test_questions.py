"""Questions with windows of long texts: nothing of a text is missing, and answers stay at their tokens."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from ssl_nlp.corpora import Document, HubDataset, Span
from ssl_nlp.data import Questions, TextDataModule, TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX, concatenate
from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.errors import UserError
from tests.tasks.made import Made

NAMES = ["Ada", "Grace", "Alan"]


def questions(number=40):
    """The name is told somewhere in a text of 10 to 60 words; some questions have two answers, some none."""
    for i in range(number):
        filler = [f"word{(i * 7 + j) % 30}" for j in range(10 + 7 * (i % 8))]
        filler.insert(i * 5 % len(filler), f"name {NAMES[i % 3]}")
        text = " ".join(filler)
        start = text.index(NAMES[i % 3])
        answer = Span(start, start + len(NAMES[i % 3]))
        label = () if i % 7 == 6 else (answer, Span(start - 5, answer.stop)) if i % 5 == 4 else (answer,)
        yield Document(text, label, f"Who is it in number {i}?", f"q{i}")


def module(length=48, documents=None, **settings):
    maker = Questions(**{"overlap": 6, "question": 12} | settings)
    documents = list(questions()) if documents is None else documents
    tokenizer = TokenizerSettings(vocab_size=400)
    return TextDataModule(Made(documents), tokenizer, unit=maker, length=length, batch_size=4, labels="spans")


def suffixed(tokenizer):
    """The tokenizer with BERT's frame: [CLS] text [SEP]."""
    roles = json.loads(tokenizer.serialize())
    return Tokenizer(json.dumps(roles | {"suffix": [roles["mask"]]}))


@pytest.fixture(params=["prefix", "both"])
def data(request):
    found = module()
    if request.param == "both":
        found.continue_with(suffixed(found.tokenizer), {})
    return found


def test_windows_cover_each_text_and_overlap(data):
    tokenizer, documents = data.tokenizer, list(data.corpus.documents("train"))
    windows: dict[int, list[tuple[int, list[int]]]] = {}
    for batch in data.train_dataloader():
        assert batch.input_ids.shape[1] <= 48
        for ids, real, (start, stop, first), number in zip(
            batch.input_ids, batch.is_text, batch.windows.tolist(), batch.documents.tolist(), strict=True
        ):
            ids = ids[real].tolist()
            asked = tokenizer.encode([documents[number].pair])[0][0]
            asked = asked[: len(asked) - len(tokenizer.suffix)][: 1 + 12]
            between = tokenizer.suffix or tokenizer.prefix
            assert ids[:start] == [*asked, *between]
            assert ids[stop:] == tokenizer.suffix
            windows.setdefault(number, []).append((first, ids[start:stop]))
    assert sorted(windows) == list(range(len(documents)))
    for number, found in windows.items():
        whole = tokenizer.encode([documents[number].text])[0][0]
        whole = whole[1 : len(whole) - len(tokenizer.suffix)]
        found.sort()
        assert found[0][0] == 0
        for (first, ids), (following, _) in pairwise(found):
            assert following == first + len(ids) - 6
        assert all(ids == whole[first : first + len(ids)] for first, ids in found)
        assert found[-1][0] + len(found[-1][1]) == len(whole)
    assert max(map(len, windows.values())) > 2


def test_answers_are_at_their_tokens_in_every_window_that_holds_them(data):
    tokenizer, documents = data.tokenizer, list(data.corpus.documents("train"))
    held: dict[int, set[str]] = {}
    for batch in data.train_dataloader():
        for ids, spans, number in zip(batch.input_ids, batch.labels.tolist(), batch.documents.tolist(), strict=True):
            kept = [tokenizer.decode(ids[a:b].tolist()).strip() for a, b, _ in spans if a != IGNORE_INDEX]
            held.setdefault(number, set()).update(kept)
    for number, document in enumerate(documents):
        assert held[number] == {document.text[span.start : span.stop] for span in document.label}


def test_rows_are_sorted_by_their_true_length(data):
    rows = data.maker.rows(data.store("train"), data.tokenizer, 48)
    lengths = [int(rows[[i]].is_text.sum()) for i in range(len(rows))]
    assert rows.sizes.tolist() == lengths


def test_two_batches_below_each_other_keep_their_windows():
    batches = list(module().val_dataloader())[:2]
    joined = concatenate(batches, 0)
    assert torch.equal(joined.windows, torch.cat([batch.windows for batch in batches]))


def test_a_stream_has_the_same_rows(tmp_path, monkeypatch):
    from datasets import Dataset, Features, List, Value

    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "cache"))
    given = list(questions(130))
    answers = [
        {"text": [d.text[s.start : s.stop] for s in d.label], "answer_start": [s.start for s in d.label]} for d in given
    ]
    columns = {"context": [d.text for d in given], "question": [d.pair for d in given], "answers": answers}
    kinds = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
    features = Features({"context": Value("string"), "question": Value("string"), "answers": kinds})
    (tmp_path / "data").mkdir()
    Dataset.from_dict(columns, features).to_parquet(str(tmp_path / "data" / "train.parquet"))
    fields = {"text": "context", "pair": "question", "label": "answers", "valid": 0.2, "test": None}
    found = []
    for streaming in (False, True):
        corpus = HubDataset(str(tmp_path / "data"), **fields, streaming=streaming)
        data = TextDataModule(
            corpus, TokenizerSettings(vocab_size=400), unit=Questions(6, 12), length=48, batch_size=2, labels="spans"
        )
        batches = iter(data.train_dataloader())
        rows = set()
        for batch in [next(batches) for _ in range(100)]:  # of a stream: its first group
            for ids, real, window, spans in zip(
                batch.input_ids, batch.is_text, batch.windows, batch.labels, strict=True
            ):
                kept = [span for span in spans.tolist() if span[0] != IGNORE_INDEX]
                rows.add((*ids[real].tolist(), *window.tolist(), *np.ravel(kept).tolist()))
        found.append(rows)
    disk, stream = found
    assert len(stream & disk) > 0.5 * len(disk)
    assert not {row for row in stream if len(row) > 60}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"overlap": 45},
            "data.length 48 leaves .* tokens for a window beside a question of 12, and windows overlap by 45",
        ),
        ({"documents": [Document("text", ())] * 9}, "'text' has no question: name the field"),
        ({"overlap": -1}, "overlap must be 0 or more"),
    ],
)
def test_what_leaves_no_window_is_refused(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        module(**settings).train_dataloader()


def test_the_cache_keeps_one_copy_for_all_sizes_of_windows():
    assert Questions(1, 2).fingerprint() == Questions(3, 4).fingerprint() == "question"
