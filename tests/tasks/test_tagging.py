"""Tagging learns, is scored as its sentences say, and predicts the words of plain texts."""

import pytest
import torch
from lightning.pytorch import Trainer
from seqeval.metrics import f1_score

from ssl_nlp.corpora import Document
from ssl_nlp.data import TokenizerSettings
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.tasks import Tagging
from tests.tasks.made import FAST, QUIET, data_of, fitted, tiny

FIRST = ["Ada", "Grace", "Alan"]
LAST = ["Lovelace", "Hopper", "Turing"]


def people(number=100):
    """Sentences with a name of one word or two."""
    for i in range(number):
        name = [FIRST[i % 3], LAST[i % 3]][: 1 + i % 2]
        words = [*name, "went", "to", "town", str(i), "."]
        yield Document(" ".join(words), ("B-PER", "I-PER")[: len(name)] + ("O",) * 5)


def chinese(number=60):
    for i in range(number):
        place = "北京上海"[i % 2 * 2 :][:2]
        yield Document(f"他去了{place}第{i % 10}次", ("O",) * 3 + ("B-LOC", "I-LOC") + ("O",) * 3)


def tagging(**settings):
    return Tagging(tiny(), optimization=FAST, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, task, data = tmp_path_factory.mktemp("tagging"), tagging(), data_of(list(people()), labels="tags")
    return task, data, fitted(task, data, folder, steps=60)


def test_it_learns_names_and_f1_of_their_spans_decides(trained):
    task, _, scores = trained
    assert task.classes == ["B-PER", "I-PER", "O"]
    assert task.monitor == ("f1", True)
    assert scores["val/f1"] > 0.9
    assert scores["val/accuracy"] > 0.9
    assert task.last_result.details["classes"]["PER"]["support"] == 20
    assert statistic_of(task.last_result.items, task.last_result.statistic) == pytest.approx(scores["val/f1"])


def test_it_predicts_the_words_of_texts(trained):
    task, data, scores = trained
    documents = list(data.corpus.documents("valid"))
    tagged = task.predict([d.text for d in documents], batch_size=3)
    assert [[word["word"] for word in words] for words in tagged] == [d.text.split() for d in documents]
    found = [[word["tag"] for word in words] for words in tagged]
    assert f1_score([list(d.label) for d in documents], found) == pytest.approx(scores["val/f1"])
    for document, words in zip(documents, tagged, strict=True):
        assert [document.text[word["start"] : word["stop"]] for word in words] == document.text.split()
    assert all(1 / 3 <= word["probability"] <= 1 for words in tagged for word in words)
    assert task.predict([""]) == [[]]
    assert task.sample_documents(documents[:1])[0]["tags"].startswith("Ada/B-PER ")
    [words] = task.predict(["Ada went " * 40])
    assert words[0]["tag"] == "B-PER"
    assert words[-1]["tag"] is None  # beyond the encoder's longest row


def test_a_checkpoint_predicts_the_same(trained, tmp_path):
    task, _, _ = trained
    torch.save(task_checkpoint(task), tmp_path / "a.ckpt")
    again = Tagging.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.characters is False
    assert again.predict(["Ada Lovelace went"]) == task.predict(["Ada Lovelace went"])


@pytest.mark.parametrize(("given", "expected"), [(None, True), (False, False)])
def test_a_resumed_training_keeps_what_the_checkpoint_has_decided(trained, given, expected):
    task, data, _ = trained
    checkpoint = task_checkpoint(task)
    checkpoint["ssl_nlp"]["method"]["init_args"]["characters"] = True  # as an earlier version may have decided
    resumed = tagging(characters=given)
    resumed.connect_data(data, "fit")
    assert resumed.characters is False
    resumed.trainer = Trainer(accelerator="cpu", **QUIET)
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.characters is resumed.description()["init_args"]["characters"] is expected


def task_checkpoint(task):
    checkpoint = {"state_dict": task.state_dict(), "pytorch-lightning_version": "2.6"}
    task.on_save_checkpoint(checkpoint)
    return checkpoint


def test_characters_of_chinese_are_words(tmp_path):
    task = tagging()
    data = data_of(list(chinese()), labels="tags", tokenizer=TokenizerSettings(kind="char", vocab_size=320))
    assert fitted(task, data, tmp_path, steps=40)["val/f1"] > 0.9
    [words] = task.predict(["他去了上海 第1次"])
    assert [word["word"] for word in words] == list("他去了上海第1次")
    assert [word["tag"] for word in words[3:5]] == ["B-LOC", "I-LOC"]


def test_most_sentences_decide_whether_characters_are_words():
    by_character = [Document("C 3", ("O", "O")), *chinese(6)]  # letters are joined by blanks
    by_word = [Document("大小", ("A", "B")), *(Document(f"北京 大{i}", ("A", "B")) for i in range(6))]
    for documents, expected in ((by_character, True), (by_word, False)):
        task = tagging()
        task.take_facts(data_of([documents[-1], *documents], labels="tags"), "fit")
        assert task.characters is expected


def test_parts_of_speech_are_scored_by_accuracy(tmp_path):
    documents = [Document(f"dogs bark {i}", ("NN", "VB", "CD")) for i in range(40)]
    task = tagging(scheme=None)
    scores = fitted(task, data_of(documents, labels="tags"), tmp_path, steps=2)
    assert task.monitor == ("accuracy", True)
    assert "val/f1" not in scores
    assert task.last_result.items.mean() == pytest.approx(scores["val/accuracy"])


@pytest.mark.parametrize(
    ("settings", "labels", "complaint"),
    [
        ({"scheme": "BIO"}, "tags", "scheme 'BIO' is unknown: use IOB1, IOB2, IOBES"),
        ({"scheme": "IOBES"}, None, "set data.labels to 'tags'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings, labels, complaint, tmp_path):
    with pytest.raises(UserError, match=complaint):
        fitted(tagging(**settings), data_of(list(people(10)), labels=labels), tmp_path, steps=1)


def test_tags_of_another_scheme_are_refused(tmp_path):
    documents = [Document("Ada left .", ("S-PER", "O", "O")), Document("It rains .", ("O",) * 3)] * 5
    with pytest.raises(UserError, match="the tag 'S-PER' is not one of the scheme IOB2"):
        fitted(tagging(scheme="IOB2"), data_of(documents, labels="tags"), tmp_path, steps=1)


def test_a_tag_that_is_not_in_training_is_refused(tmp_path):
    documents = [Document("It rains .", ("O", "B-X" if i % 5 else "B-Y", "O")) for i in range(10)]
    with pytest.raises(UserError, match="the class 'B-Y' is not among those of the train split"):
        fitted(tagging(), data_of(documents, labels="tags"), tmp_path, steps=1)
