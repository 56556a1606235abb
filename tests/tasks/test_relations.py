"""Relations are learned from the states at the markers, with any tokenizer and whichever way an encoder reads."""

import pytest
import torch

from ssl_nlp.corpora import Document
from ssl_nlp.data import TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.errors import UserError
from ssl_nlp.tasks import RelationExtraction
from tests.tasks.made import FAST, data_of, fitted, tiny

PARTS, WHOLES = ["engine", "wheel", "door"], ["car", "house", "plane"]


def relations(number=120):
    """The order of part and whole says the class: it takes both entities to tell."""
    for i in range(number):
        part, whole = PARTS[i % 3], WHOLES[i // 3 % 3]
        one, other = (part, whole) if i % 2 else (whole, part)
        label = "Part-Whole(e1,e2)" if i % 2 else "Part-Whole(e2,e1)"
        yield Document(f"See (<e1>{one}</e1>), and a <e2>{other}</e2>. {i}", label)


def relation_data(**settings):
    return data_of(list(relations()), **{"labels": "relation", "length": 40} | settings)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
def test_an_entity_is_the_tokens_of_its_markers_and_what_they_mark(kind):
    data = relation_data(tokenizer=TokenizerSettings(kind=kind, vocab_size=320), length=80)
    batch = next(iter(data.val_dataloader()))
    documents = list(data.corpus.documents("valid"))
    for ids, number, entities in zip(batch.input_ids, batch.documents, batch.labels, strict=True):
        text = documents[number].text
        for name, (start, stop, label) in zip(("e1", "e2"), entities.tolist(), strict=True):
            marked = data.tokenizer.decode(ids[start:stop].tolist()).replace(" ", "")
            expected = text[text.index(f"<{name}>") : text.index(f"</{name}>") + 5]
            assert expected in marked  # a token may hold punctuation around it, too
            assert len(marked) <= len(expected) + 3
            assert data.class_names[label] == documents[number].label
    assert batch.labels.shape[1:] == (2, 3)


def test_an_entity_that_was_cut_off_has_no_place_but_its_class():
    data = relation_data(tokenizer=TokenizerSettings(kind="char", vocab_size=320), length=26)
    batch = next(iter(data.val_dataloader()))
    assert (batch.labels[:, 1, :2] == IGNORE_INDEX).all()
    assert (batch.labels[:, 0, 0] == 6).all()
    assert (batch.labels[:, :, 2] >= 0).all()
    task = RelationExtraction(tiny())
    task.connect_data(data, "validate")
    assert task.outputs(batch).isfinite().all()


@pytest.mark.parametrize("causal", [False, True])
def test_it_learns_relations_and_predicts_them(causal, tmp_path):
    task = RelationExtraction(tiny(dim=32), causal=causal, optimization=FAST)
    data = relation_data()
    scores = fitted(task, data, tmp_path, steps=100)
    assert scores["val/macro_f1"] > 0.9
    documents = list(data.corpus.documents("valid"))
    found = task.predict([document.text for document in documents], batch_size=5)
    right = [one == document.label for one, document in zip(found, documents, strict=True)]
    assert sum(right) / len(right) == pytest.approx(scores["val/accuracy"])
    [record, *_] = task.predict_records(documents)
    assert record["text"] == documents[0].text
    assert record["prediction"] == found[0]
    assert sum(record["probabilities"].values()) == pytest.approx(1)
    assert {row["prediction"] for row in task.sample_documents(documents[:4])} <= set(task.classes)
    late = Document("A <e2>car</e2> has a" + " very" * 50 + " big <e1>door</e1>.", "Part-Whole(e1,e2)")
    assert len(task.sample_documents([late, documents[0]])) == 1  # the samples' texts are cut before the end of e1


def test_the_states_are_those_at_the_markers():
    """Changing the text behind the entities changes nothing in a causal model, and changing an entity does."""
    task = RelationExtraction(tiny(), dropout=0, causal=True)
    task.connect_data(relation_data(), "validate")
    task.eval()
    texts = [
        "A <e1>car</e1> has a <e2>door</e2> x",
        "A <e1>car</e1> has a <e2>door</e2> y",
        "A <e1>cat</e1> has a <e2>door</e2> x",
    ]
    one, other, changed = (
        record["probabilities"]["Part-Whole(e1,e2)"] for record in task.predict_records([*map(Document, texts)])
    )
    assert one == pytest.approx(other)
    assert one != pytest.approx(changed)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no <e1>one</e1>", "has 0 entities between <e2> and </e2>: mark one, as in"),
        ("<e1>a</e1> <e1>b</e1> <e2>c</e2>", "has 2 entities between <e1> and </e1>"),
        ("<e1>a <e2>b</e2>", "has 0 entities between <e1>"),
    ],
)
def test_texts_without_markers_are_refused(text, complaint, tmp_path):
    documents = [*relations(6), Document(text, "Part-Whole(e1,e2)")]
    with pytest.raises(UserError, match=complaint):
        fitted(RelationExtraction(tiny()), data_of(documents, labels="relation"), tmp_path, steps=1)
    task = RelationExtraction(tiny())
    task.connect_data(relation_data(), "validate")
    with pytest.raises(UserError, match=complaint):
        task.predict([text])


def test_a_document_without_label_and_a_sentence_without_entities_do_not_count():
    document = Document("See <e1>a</e1> and <e2>b</e2>. Then it rained.", "x")
    other = [Document("One <e1>a</e1> is <e2>b</e2>.", None)]
    data = data_of([document, *other, document, *relations(8)], labels="relation", unit="sentence", classes=None)
    labels = torch.cat([batch.labels for batch in data.train_dataloader()])
    with_class = labels[:, 0, 2] != IGNORE_INDEX
    assert 0 < with_class.sum() < len(labels)
    assert (labels[~with_class] == IGNORE_INDEX).all()
