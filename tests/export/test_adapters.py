"""Runs and exported folders in lm-eval and mteb: the same numbers."""

import json
import subprocess
import sys

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from ssl_nlp.errors import UserError
from ssl_nlp.export.adapters import lm_eval_model, mteb_model
from tests.export.test_transformers_format import method_of

PAIRS = [
    ("the dog sees", " a cat"), ("the dog", " hears the red house"), ("", "a bird"), ("一只小狗", "看见猫。"),
    ("the dog sees a cat and " * 10, "hears it"), ("a ", "b"),
]  # fmt: skip


@pytest.fixture
def folder(exports, monkeypatch):
    monkeypatch.chdir(exports)
    return exports


def requests(kind: str, *arguments: tuple) -> list[Instance]:
    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


def test_likelihoods_equal_those_of_lm_evals_own_model(folder):
    ours, theirs = lm_eval_model("causal_lm"), lm_eval_model("exports/causal_lm-transformers")
    assert isinstance(theirs, HFLM)
    asked = requests("loglikelihood", *PAIRS)
    mine, yours = ours.loglikelihood(asked), theirs.loglikelihood(asked)
    assert [nats for nats, _ in mine] == pytest.approx([nats for nats, _ in yours], rel=1e-4)
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in yours]


def test_likelihoods_of_long_texts_equal_those_of_lm_evals_own_model(folder):
    ours = lm_eval_model("causal_lm", batch_size=2)
    theirs = HFLM(pretrained="exports/causal_lm-transformers", add_bos_token=False, device="cpu")
    asked = requests("loglikelihood_rolling", ("the dog sees a cat and " * 20,), ("a bird",))
    assert ours.loglikelihood_rolling(asked) == pytest.approx(theirs.loglikelihood_rolling(asked), rel=1e-4)


def test_continuations_stop_where_they_are_told(folder):
    ours = lm_eval_model("causal_lm")
    settings = {"max_gen_toks": 8, "until": []}
    [text] = ours.generate_until(requests("generate_until", ("the dog", settings)))
    assert text == method_of("causal_lm").generate(["the dog"], max_new_tokens=8, temperature=0)[0]
    [shorter] = ours.generate_until(requests("generate_until", ("the dog", settings | {"until": [text[3]]})))
    assert shorter == text.split(text[3])[0]


def test_a_local_task_gives_a_run_and_its_folder_one_accuracy(folder, tmp_path, monkeypatch):
    items = [{"text": a, "choices": [b, " zzz"], "right": 0} for a, b in PAIRS if a]
    (tmp_path / "items.json").write_text("\n".join(map(json.dumps, items)))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    task = {
        "task": "animals",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "items.json")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "right",
    }
    found = []
    for model in ("causal_lm", "exports/causal_lm-transformers"):
        result = lm_eval.simple_evaluate(lm_eval_model(model), tasks=[dict(task)], bootstrap_iters=0)
        found.append(result["results"]["animals"]["acc,none"])
    assert found[0] == found[1]


def test_mteb_gets_the_same_vectors_of_a_run_and_its_folder(folder):
    ours, theirs = mteb_model("vae"), mteb_model("exports/vae-sentence-transformers")
    texts = ["the dog sees a cat", "a bird"]
    torch.testing.assert_close(
        torch.from_numpy(ours.encode([{"text": texts}])), torch.from_numpy(theirs.encode(texts)), rtol=1e-5, atol=1e-5
    )


def test_a_model_that_does_not_fit_is_refused_in_one_line(folder):
    with pytest.raises(UserError, match="vae holds a VAE, and lm-eval needs a CausalLM: choose another run"):
        lm_eval_model("vae")
    for name in ("causal_lm-sentence-transformers", "masked_lm-transformers", "causal_lm-onnx"):
        with pytest.raises(UserError, match=f"{name} does not hold a CausalLM exported with --format transformers"):
            lm_eval_model(f"exports/{name}")
    with pytest.raises(UserError, match="does not hold a model exported with --format sentence-transformers: export"):
        mteb_model("exports/vae-transformers")


def test_a_model_computes_on_the_device_that_is_named(folder):
    assert mteb_model("exports/vae-sentence-transformers", device="meta").device.type == "meta"


@pytest.mark.slow
def test_a_fine_tuned_run_is_known_in_a_script_that_imports_nothing_else():
    lines = (
        "from ssl_nlp.export import adapters",
        "from ssl_nlp.runs.checkpoint import find_class",
        "find_class('ssl_nlp.tasks.Classification', adapters.TextModule)",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
