"""Answers are found over all windows of a text, are scored as questions, and may be refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_nlp.corpora import Document
from ssl_nlp.errors import UserError
from ssl_nlp.tasks import QuestionAnswering
from ssl_nlp.tasks.question_answering import Candidate, best_answers
from ssl_nlp.tasks.scoring.answers import answer_scores
from tests.data.test_questions import module, questions
from tests.tasks.made import FAST, data_of, fitted, tiny


def answering(**settings):
    return QuestionAnswering(tiny(dim=32, max_length=64), **{"optimization": FAST, "dropout": 0.0} | settings)


@pytest.fixture(scope="module", params=[False, True], ids=["bidirectional", "causal"])
def trained(request, tmp_path_factory):
    task = answering(unanswerable=True, causal=request.param)
    data = module(documents=list(questions(120)))
    return task, data, fitted(task, data, tmp_path_factory.mktemp("answers"), steps=150)


def test_it_learns_to_find_names_in_long_texts(trained):
    task, _, scores = trained
    assert scores["val/f1_answerable"] > 0.8
    assert scores["val/exact_match"] <= scores["val/f1"] <= scores["val/best_f1"]
    assert len(task.last_result.items) == 24
    assert task.last_result.items.mean() == pytest.approx(scores["val/f1"])


def test_questions_about_one_text_are_a_group():
    again = [replace(document, pair=f"{document.pair} Again?") for document in questions(40)]
    data = module(documents=[*questions(40), *again])
    task = answering()
    task.connect_data(data, "validate")
    texts = [document.text for document in data.corpus.documents("valid")]
    found = task.result([Candidate(number, 1, 1, 0.0, 1.0, 0.5) for number in range(len(texts))])
    assert len(set(texts)) < len(texts)
    assert [texts[group] for [group] in np.unique(found.groups, return_index=True)[1][found.groups].tolist()] == texts


def test_predictions_are_parts_of_the_text_and_score_as_the_validation_did(trained):
    task, data, scores = trained
    documents = list(data.corpus.documents("valid"))
    records = task.predict_records(documents, batch_size=5, data=data)
    assert [record["id"] for record in records] == [document.id for document in documents]
    for record, document in zip(records, documents, strict=True):
        assert record["prediction"] == document.text[record["start"] : record["stop"]]
        assert 0 <= record["probability"] <= 1
    found = [answer_scores(record["label"], record["prediction"]).f1 for record in records]
    assert sum(found) / len(found) == pytest.approx(scores["val/f1"])  # they read the windows of the data
    pairs = [(document.text, document.pair) for document in documents]
    assert task.predict(pairs[:3], batch_size=2) == [
        record["prediction"] for record in task.predict_records(documents[:3])
    ]
    assert set(task.sample_documents(documents[:1])[0]) == {"question", "answer", "true"}


def test_the_best_answer_is_found_by_trying_all_spans_of_all_windows(trained):
    task, data, _ = trained
    task.eval()
    expected: dict[int, tuple[float, int, int, float]] = {}
    items = []
    with torch.no_grad():
        for batch in data.val_dataloader():
            logits = task.outputs(batch)
            items += task.items(logits, batch)
            for row, (start, stop, first), number in zip(
                logits, batch.windows.tolist(), batch.documents.tolist(), strict=True
            ):
                none = float(row[0, 0] + row[1, 0])
                for i in range(start, stop):
                    for j in range(i, min(stop, i + task.longest_answer)):
                        one = (float(row[0, i] + row[1, j]), first + i - start, first + j - start, none)
                        before = expected.get(number, (-1e9, 0, 0, 1e9))
                        lowest = min(none, before[3])
                        expected[number] = (*(one if one[0] > before[0] else before)[:3], lowest)
    assert len(items) > len(expected)  # several windows
    for answer in best_answers(items):
        score, first, last, none = expected[answer.document]
        assert answer.score == pytest.approx(score)
        assert (answer.first, answer.last) == (first, last)
        assert answer.none == pytest.approx(none)


def test_windows_of_a_question_meet_again_wherever_they_were_computed():
    items = [Candidate(1, 5, 6, 2.0, 0.5, 0.1), Candidate(0, 1, 1, 0.0, 3.0, 0.1), Candidate(1, 9, 9, 3.0, 0.9, 0.2)]
    expected = [items[1], items[2]._replace(none=0.5)]
    assert best_answers(items) == best_answers(items[::-1]) == expected


def test_a_window_without_the_answer_is_trained_to_have_none():
    data = module()
    task = answering()
    task.connect_data(data, "validate")
    task.eval()
    for batch in data.train_dataloader():
        logits = task.outputs(batch).detach()
        total, nats = task.loss_of(logits, batch).terms["answer"].total, 0.0
        for row, spans in zip(logits, batch.labels.tolist(), strict=True):
            start, stop = (spans[0][0], spans[0][1] - 1) if spans and spans[0][0] >= 0 else (0, 0)
            nats -= float(row[0].log_softmax(0)[start] + row[1].log_softmax(0)[stop]) / 2
        assert float(total) == pytest.approx(nats, rel=1e-4)


def test_a_question_is_refused_above_the_threshold(trained):
    task, data, _ = trained
    pair = next(iter((d.text, d.pair) for d in data.corpus.documents("valid") if d.label))
    before = task.threshold
    try:
        task.threshold = -1e9
        assert task.predict([pair]) == [""]
        task.threshold = 1e9
        assert task.predict([pair]) != [""]
    finally:
        task.threshold = before


@pytest.mark.parametrize("causal", [False, True])
def test_a_checkpoint_answers_the_same(causal, tmp_path):
    task, data = answering(causal=causal), module()
    task.connect_data(data, "validate")
    saved = {"state_dict": task.state_dict(), "pytorch-lightning_version": "2.6"}
    task.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "a.ckpt")
    again = QuestionAnswering.load_from_checkpoint(tmp_path / "a.ckpt")
    documents = list(data.corpus.documents("valid"))[:4]
    assert again.predict_records(documents) == task.predict_records(documents)


def test_answers_that_are_too_long_to_be_found_are_warned_of(capsys):
    data = module(documents=list(questions(20)))  # `name Ada` is an answer of several tokens
    for longest, warned in ((30, False), (1, True)):
        answering(longest_answer=longest).connect_data(data, "fit")
        assert (f"warning: longest_answer {longest} is shorter than" in capsys.readouterr().err) is warned


def test_data_of_another_kind_are_refused_in_one_line(tmp_path):
    documents = [Document(f"text {i}", (), "Who?") for i in range(10)]
    with pytest.raises(UserError, match="set data.unit to ssl_nlp.data.Questions"):
        fitted(answering(), data_of(documents, labels="spans"), tmp_path, steps=1)
    with pytest.raises(UserError, match="scorer 'bleu' is unknown"):
        answering(scorer="bleu")
    with pytest.raises(UserError, match="longest_answer must be 1 or more"):
        answering(longest_answer=0)
