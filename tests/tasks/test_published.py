"""Tasks on words, entities and questions train a published encoder, bidirectional or causal."""

import pytest
import torch

from ssl_nlp.data import Questions
from ssl_nlp.tasks import QuestionAnswering, RelationExtraction, Tagging
from tests.data.test_questions import questions
from tests.export.test_task_heads import published
from tests.tasks.made import FAST, data_of, fitted
from tests.tasks.test_relations import relations
from tests.tasks.test_tagging import people

CASES = {
    "tagging": (Tagging, lambda: data_of(list(people(20)), labels="tags", length=40)),
    "relations": (RelationExtraction, lambda: data_of(list(relations(20)), labels="relation", length=40)),
    "questions": (
        QuestionAnswering,
        lambda: data_of(list(questions(20)), labels="spans", length=40, unit=Questions(overlap=4, question=12)),
    ),
}


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2"])
@pytest.mark.parametrize("name", CASES)
def test_a_published_encoder_is_trained_in_all_its_parts(name, family, tmp_path):
    encoder, tokenizer = published(family, tmp_path / "model")
    encoder.tokenizer_name = None  # that of the test, which is not in the folder of the model
    kind, data = CASES[name]
    task, data = kind(encoder, dropout=0.0, optimization=FAST), data()
    data.continue_with(tokenizer, {})
    task.connect_data(data, "fit")
    assert encoder.causal == (family == "gpt2")
    before = {name: weight.clone() for name, weight in task.named_parameters()}
    scores = fitted(task, data, tmp_path, steps=2)
    assert scores[f"val/{task.monitor[0]}"] >= 0
    still = {name for name, weight in task.named_parameters() if torch.equal(weight, before[name])}
    assert not {name for name in still if "bias" not in name and "norm" not in name}, still
