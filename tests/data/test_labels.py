"""Labels keep to their rows, words and characters, whichever way batches are made of the documents."""

import math

import pytest
import torch

from ssl_nlp.corpora import Document, Span
from ssl_nlp.data import Pairs, Sentences, TokenBatch, TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX, concatenate
from ssl_nlp.data.labels import KINDS, ClassLabels, SpanLabels, TagLabels
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import Tokenizer, get_tokenizer, train
from ssl_nlp.errors import UserError
from tests.data.labelled import TEXTS, Labelled, first_tokens, module, rows_of, spans_of, tags_of


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer(TokenizerSettings(vocab_size=320), Labelled("class"))


# ------------------------------------------------------------------------------------------------- rows of a document


@pytest.mark.parametrize("unit", ["sentence", "pair"])
@pytest.mark.parametrize("kind", ["class", "score"])
def test_each_row_has_the_class_or_score_of_its_document(kind, unit, tokenizer):
    data = module(kind, unit=unit)
    seen = 0
    documents = list(data.corpus.documents("train"))
    for batch in data.train_dataloader():
        for part in [batch] if batch.pair is None else [batch, batch.pair]:
            for number, label in zip(part.documents.tolist(), part.labels.tolist(), strict=True):
                expected = documents[number].label
                seen += 1
                assert (data.class_names[label] if kind == "class" else label) == pytest.approx(expected)
            assert part.labels.dtype == (torch.int64 if kind == "class" else torch.float32)
    assert seen == {"sentence": 180, "pair": 120}[unit]


@pytest.mark.parametrize("unit", ["sentence", "pair"])
@pytest.mark.parametrize("length", [16, 64])
def test_the_first_token_of_a_word_has_its_tag_and_no_other(unit, length, tokenizer):
    data = module("tags", unit=unit, length=length)
    limit = data.maker.text_lengths(length)[0]
    rows = data.maker.rows(data.store("train"), tokenizer, length)
    texts = [text for document in data.corpus.documents("train") for text in data.maker.texts(document)]
    found = list(rows_of((rows[[i]] for i in range(len(rows))), tokenizer))
    for text, (_, ids, label) in zip(texts, found, strict=True):
        expected = [IGNORE_INDEX] * len(ids)
        for place, tag in zip(first_tokens(text, tokenizer), tags_of(text), strict=True):
            if place < limit:
                expected[place] = data.class_names.index(tag)
        assert label.tolist() == expected
    assert data.class_names == ["LOC", "O", "PER"]


@pytest.mark.parametrize("length", [6, 64])
def test_spans_are_the_tokens_of_their_characters(length, tokenizer):
    data = module("spans", length=length)
    found = 0
    for text, ids, label in rows_of(data.train_dataloader(), tokenizer):
        kept = [span for span in label.tolist() if span[0] != IGNORE_INDEX]
        parts = {(tokenizer.decode(ids[start:stop]).strip(), name) for start, stop, name in kept}
        expected = {(text[s.start : s.stop], s.name) for s in spans_of(text) if s.name}  # a cut name is not in the text
        assert parts == {(part, data.class_names.index(name)) for part, name in expected}
        found += len(parts)
    assert data.class_names == ["LOC", "PER"]
    assert found == 120 if length == 64 else 60 <= found < 120  # all texts begin with the one, and few reach the other


def test_each_row_has_all_classes_of_its_document():
    """None of them is no label; an empty list is a label."""
    label = {TEXTS[0]: ("b", "a"), TEXTS[1]: "c", TEXTS[2]: (), TEXTS[3]: None}
    data = module("classes", Labelled("classes", TEXTS[:4], label.get), unit="text")
    assert data.class_names == ["a", "b", "c"]
    rows = data.rows("train")[range(4)]
    assert rows.labels.dtype == torch.float32
    assert rows.labels[:3].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]] and rows.labels[3].isnan().all()
    both = concatenate([rows, rows], data.tokenizer.pad_id)
    assert torch.equal(both.labels[:3], both.labels[4:7])


def test_a_span_that_is_cut_off_is_left_out_and_one_without_name_has_no_class():
    labels = SpanLabels([])
    batch = labels.collate([[1, 3, IGNORE_INDEX, 4, 9, IGNORE_INDEX], [], [0, 8, IGNORE_INDEX]], width=8)
    assert batch.tolist() == [[[1, 3, -100]], [[-100] * 3], [[0, 8, -100]]]
    assert labels.collate([[], []], width=8).shape == (2, 0, 3)


def test_a_pair_of_its_own_has_no_words_of_the_labelled_text(tokenizer):
    data = module("tags", Labelled("tags", pairs=True), unit="pair", length=256)
    batch = next(iter(data.train_dataloader()))
    assert (batch.labels != IGNORE_INDEX).any()
    assert (batch.pair.labels == IGNORE_INDEX).all()
    classes = next(iter(module("class", Labelled("class", pairs=True), unit="pair").train_dataloader()))
    assert torch.equal(classes.labels, classes.pair.labels)


@pytest.mark.parametrize("length", [7, 16, 1000])
def test_packed_rows_hold_every_tag_at_its_token(length, tokenizer):
    data = module("tags", unit="block", length=length)
    rows = data.maker.rows(data.store("train"), tokenizer, length)
    batch = rows[range(len(rows))]
    expected = []
    for text in TEXTS:
        tags = [IGNORE_INDEX] * len(tokenizer.encode([text])[0][0])
        for place, tag in zip(first_tokens(text, tokenizer), tags_of(text), strict=True):
            tags[place] = data.class_names.index(tag)
        expected += tags
    assert batch.labels[batch.is_text].tolist() == expected
    assert (batch.labels[~batch.is_text] == IGNORE_INDEX).all()


@pytest.mark.parametrize("kind", ["class", "score", "spans"])
def test_packed_rows_cannot_have_a_label_of_a_document(kind):
    unit = "ssl_nlp.data.Questions" if kind == "spans" else "'text' or 'pair'"
    with pytest.raises(UserError, match=f"does not go with data.unit 'block', .* set data.unit to {unit}"):
        module(kind, unit="block")


# --------------------------------------------------------------------------------------------------- words and scripts

CHINESE = ["今天天气很好", "我们去公园", "他们用手机"]


@pytest.mark.parametrize("kind", ["char", "wordpiece", "bpe", "unigram"])
def test_where_no_white_space_separates_words_each_character_has_a_tag(kind, capsys):
    tokenizer = Tokenizer(train(TokenizerSettings(kind=kind, vocab_size=400), lambda: iter(CHINESE * 9)))
    labels = TagLabels([str(i) for i in range(9)])
    for text in CHINESE:
        document = Document(text, tuple(str(i) for i in range(len(text))))
        store = open_store(
            Labelled("tags", [text] * 2, lambda _, d=document: d.label), "train", tokenizer, Sentences(), labels
        )
        row = store.row(0)
        tags = [tag for tag in row.labels if tag != IGNORE_INDEX]
        assert tags == sorted(set(tags))
        if kind == "char":
            assert tags == list(range(len(text)))
        assert ("of the tags of the train split" in capsys.readouterr().err) == (len(tags) < len(text))
        covered = 0
        for token, tag in zip(row.ids, row.labels, strict=True):
            part = tokenizer.decode([token]).replace("##", "").strip()
            if tag != IGNORE_INDEX and part and "\ufffd" not in part:
                assert text[tag : tag + len(part)] == part
            covered += tag != IGNORE_INDEX
        assert covered > 0


def test_a_corpus_counts_its_tags_and_places_its_spans():
    with pytest.raises(UserError, match=r"'A dog sees' has 2 tags for 3 words \(8 characters\)"):
        TagLabels().plain(Document("A dog sees", ("O", "O")))
    with pytest.raises(UserError, match=r"the span \[4, 20\) does not lie within the 10 characters of 'A dog sees'"):
        SpanLabels().plain(Document("A dog sees", (Span(4, 20),)))


@pytest.mark.parametrize(
    ("kind", "label"), [("class", 3.5), ("score", "high"), ("score", "nan"), ("tags", "O"), ("spans", ("O", "O"))]
)
def test_a_label_of_another_kind_is_refused_with_its_text(kind, label):
    with pytest.raises(UserError, match=f"data.labels is '{kind}', but the label of 'A dog' is .*: set data.labels"):
        KINDS[kind]().plain(Document("A dog", label))


# ------------------------------------------------------------------------------------------------------------- classes


def test_classes_are_those_of_train_for_every_split_and_every_process(tokenizer):
    data = module("class")
    assert data.class_names == ["even", "odd"]
    valid = [data.class_names[n] for batch in data.val_dataloader() for n in batch.labels.tolist()]
    assert sorted(valid) == sorted(d.label for d in data.corpus.documents("valid") for _ in range(3))
    assert module("class").class_names == data.class_names
    listed = module("class", classes=["odd", "none", "even"])
    numbers = {n for batch in listed.val_dataloader() for n in batch.labels.tolist()}
    assert (listed.class_names, numbers) == (["odd", "none", "even"], {0, 2})


def test_a_class_that_train_has_not_is_named():
    data = module("class")
    data.corpus.documents = lambda split: iter([Document(f"Text {split}.", split)] * 5)
    data.corpus.fingerprint = lambda: "train and valid"
    with pytest.raises(
        UserError,
        match=r"valid split of Labelled, 'Text valid.': the class 'valid' is not among .* \(train\): .* data.classes",
    ):
        data.store("valid")


def test_a_list_of_classes_that_is_too_long_ends_in_dots():
    with pytest.raises(UserError, match=r"train split \(0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\): correct"):
        ClassLabels([str(number) for number in range(9)]).number("x")


def test_a_corpus_without_labels_is_refused_and_a_text_without_one_is_ignored():
    with pytest.raises(UserError, match="no document of the train split of Labelled has a label: name its field"):
        module("class", Labelled("class", label=lambda text: None)).store("train")
    some = module("class", Labelled("class", label=lambda text: "Ada" if "Ada" in text else None))
    numbers = [n for batch in some.train_dataloader() for n in batch.labels.tolist()]
    assert (numbers.count(0), numbers.count(IGNORE_INDEX)) == (45, 135)
    scored = module("score", Labelled("score", label=lambda text: "2.5" if "Ada" in text else None))
    values = [v for batch in scored.train_dataloader() for v in batch.labels.tolist()]
    assert (values.count(2.5), sum(map(math.isnan, values))) == (45, 135)


def test_there_are_no_classes_without_labels():
    with pytest.raises(UserError, match="set data.labels to class"):
        _ = module(None, Labelled("class")).class_names


# --------------------------------------------------------------------------------------------------- caches and digests


def test_labels_have_caches_and_digests_of_their_own(tokenizer):
    plain, labelled = (module(kind, Labelled("class")).store("train") for kind in (None, "class"))
    other = module("class", Labelled("class", label=lambda text: "odd" if "Ada" in text else "even")).store("train")
    assert len({plain.digest, labelled.digest, other.digest}) == 3
    unlabelled = open_store(Labelled("class", label=lambda text: None), "train", tokenizer, Sentences())
    assert plain.digest == unlabelled.digest
    assert plain.row(0).labels is None
    assert next(iter(module(None, Labelled("class")).train_dataloader())).labels is None


def test_a_checkpoint_remembers_the_classes(tokenizer):
    data = module("class")
    data.store("train")
    state = data.state_dict()["splits"]
    assert state["train"]["class_names"] == ["even", "odd"]
    later = module("class")
    later.continue_with(tokenizer, state)
    later.corpus.documents = lambda split: iter([] if split == "train" else Labelled("class").all[:8])
    assert later.class_names == ["even", "odd"]  # without reading the train split


@pytest.mark.parametrize("kind", ["tags", "spans"])
def test_worker_processes_make_the_batches_that_the_training_process_makes(kind):
    for one, other in zip(module(kind).train_dataloader(), module(kind, workers=1).train_dataloader(), strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.labels, other.labels)


# -------------------------------------------------------------------------------------------------------------- batches


def test_a_batch_moves_with_its_labels_and_parts_from_them():
    batch = next(iter(module("tags", unit="pair").train_dataloader()))
    moved = batch.to("meta")
    assert moved.labels.device.type == moved.pair.labels.device.type == "meta"
    bare = batch.without_labels()
    assert bare.labels is bare.pair.labels is None
    assert torch.equal(bare.input_ids, batch.input_ids)
    assert bare.without_labels() is bare


def batch_of(labels, width=2):
    ids = torch.ones(len(labels), width, dtype=torch.int64)
    return TokenBatch(ids, ids, packed=False, labels=torch.tensor(labels))


def test_labels_below_labels():
    one, other = batch_of([1, 2]), batch_of([3], width=3)
    assert concatenate([one, other], 0).labels.tolist() == [1, 2, 3]
    one, other = batch_of([[1, 2]]), batch_of([[3, 4, 5]], width=3)
    assert concatenate([one, other], 0).labels.tolist() == [[1, 2, IGNORE_INDEX], [3, 4, 5]]
    one, other = batch_of([[[0, 1, 7]]]), batch_of([[[0, 2, 7], [2, 3, 8]]], width=3)
    assert concatenate([one, other], 0).labels.tolist() == [[[0, 1, 7], [IGNORE_INDEX] * 3], [[0, 2, 7], [2, 3, 8]]]
    assert concatenate([one, other.without_labels()], 0).labels is None


def test_pairs_and_sentences_can_be_placed_and_texts_of_other_words_cannot():
    class Shouting(Sentences):
        version = 1

        def texts(self, document):
            return [document.text.upper()]

    corpus = Labelled("tags")
    assert next(iter(module("tags", corpus, unit=Pairs()).train_dataloader())).labels is not None
    assert next(iter(module("class", unit=Shouting()).train_dataloader())).labels is not None
    with pytest.raises(UserError, match="which does not contain it there, so that tags and spans cannot be placed"):
        module("tags", corpus, unit=Shouting()).store("train")
