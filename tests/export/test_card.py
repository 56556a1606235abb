"""The model card."""

import json
from pathlib import Path

import numpy as np
import pytest

from ssl_nlp.commands.evaluation_tables import _prompts
from ssl_nlp.commands.task_results import read_results
from ssl_nlp.comparison.intervals import score_interval
from ssl_nlp.comparison.numbers import format_number
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Result
from ssl_nlp.evaluation.record import SuiteResult, write_suite
from ssl_nlp.export.card import Facts, model_card
from ssl_nlp.export.contents import Contents
from ssl_nlp.runs.ancestry import published
from tests.export.test_transformers_format import method_of

CONTENTS = Contents("transformers", "fill-mask", "A model.", "load('{path}')")
FEW_SHOT = Result(
    "accuracy",
    {"accuracy": 0.5, "accuracy_per_token": 0.5, "accuracy_per_byte": 0.5, "low": 0.125, "high": 0.875},
    {"prompts": {"shots": 4}},
    np.tile([0.0, 1.0], 200),
)


def evaluated(folder: Path, result: Result) -> Facts:
    path = folder / "evaluation.json"
    header = {"method": "MaskedLM", "checkpoint": {"file": "last.ckpt", "digest": "0" * 64}}
    write_suite(path, header, "prompts", SuiteResult("", {"mood.few_shot_4": result}))
    return Facts("mine", "0" * 64, record=path)


def test_the_interval_of_few_shot_prompts_is_that_of_evaluate_over_draws_too(tmp_path):
    text = model_card(method_of("masked_lm"), evaluated(tmp_path, FEW_SHOT), CONTENTS, "mine")
    assert "| mood.few_shot_4 | accuracy | 0.500 | 0.125 to 0.875 |" in text
    assert "over the test items and, where prompts have examples, over the draws of these" in text
    [reach] = _prompts("prompts", [("mine", "mood.few_shot_4", FEW_SHOT)]).columns[4].cells
    assert reach == "0.125–0.875"


def test_intervals_are_over_items_where_nothing_is_drawn(tmp_path):
    plain = Result("accuracy", {"accuracy": 0.5}, items=FEW_SHOT.items)
    text = model_card(method_of("masked_lm"), evaluated(tmp_path, plain), CONTENTS, "mine")
    low, high = map(format_number, score_interval(plain.items, "mean"))
    assert f"| 0.500 | {low} to {high} |" in text and "draws" not in text


def test_metrics_of_a_task_have_intervals_and_name_their_split(tmp_path):
    plain = {"primary_metric": "accuracy", "metrics": {"accuracy": 0.8, "mcc": 0.6}, "interval": [0.7, 0.9]}
    given = Facts("mine", "0" * 64, metrics={"val/loss": 0.5, "val/accuracy": 0.8}, validation=plain, test=plain)
    text = model_card(method_of("masked_lm"), given, CONTENTS, "mine")
    assert "| loss on the validation split | 0.500 |" in text
    assert "| accuracy on the validation split | 0.800 (95 % interval 0.700 to 0.900) |" in text
    assert "## Evaluation: test split" in text
    assert "| accuracy | 0.800 | 0.700 to 0.900 |\n| mcc | 0.600 |  |" in text


def test_metrics_of_another_checkpoint_are_left_out(tmp_path):
    plain = {"primary_metric": "accuracy", "metrics": {"accuracy": 0.8}, "step": 2}
    path = tmp_path / "test.json"
    path.write_text(json.dumps(plain))  # of a training, or an earlier version
    assert read_results(tmp_path, "test", "ours", 2) == plain and not read_results(tmp_path, "test", "ours", 4)
    path.write_text(json.dumps(plain | {"digest": "another"}))
    assert not read_results(tmp_path, "test", "ours", 2) and not read_results(tmp_path, "validation", "ours", 2)
    path.write_text("[]")
    with pytest.raises(UserError, match="test.json is broken"):
        read_results(tmp_path, "test", "ours", 2)


def test_what_the_encoder_comes_from_is_an_ancestry_and_a_base_model():
    method, given = method_of("masked_lm_pretrained"), Facts("mine", "0" * 64)
    text = model_card(method, given, CONTENTS, "mine")
    assert "\nbase_model: bert\n" in text and "| bert |  |  |  |  |" in text
    method.encoder.name = "/home/me/bert"  # a folder has no name on the hub
    method.encoder.ancestry = (
        published("/home/me/bert"),
        {"run": "first", "checkpoint": "checkpoints/last.ckpt", "digest": "1", "method": "MaskedLM", "step": 1200}
        | {"tokens": 2.5e6, "flops": 4e12},
    )
    text = model_card(method, given, CONTENTS, "mine")
    assert "| run | method | steps | tokens | FLOPs |\n|---|---|---|---|---|\n| bert |  |  |  |  |\n" in text
    assert "| first | MaskedLM | 1,200 | 2.50 M | 4.00 T |" in text
    assert "base_model" not in text and "/home/me" not in text
    method.encoder.name, method.encoder.ancestry = "bert", ()  # untrained
    text = model_card(method, given, CONTENTS, "mine")
    assert "base_model" not in text and "## Ancestry" not in text


def test_the_trained_parameters_are_named_where_some_are_not_trained():
    counted = {"parameters": 23.0e6, "trained_parameters": 0.48e6, "peak_memory": 1e9}
    text = model_card(method_of("masked_lm"), Facts("mine", "0" * 64, counted), CONTENTS, "mine")
    assert "| parameters | 23.0 M |\n| trained parameters | 480 k |\n" in text and "memory" not in text
    text = model_card(
        method_of("masked_lm"), Facts("mine", "0", counted | {"trained_parameters": 23.0e6}), CONTENTS, ""
    )
    assert "| parameters | 23.0 M |" in text and "trained parameters" not in text
