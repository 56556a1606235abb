"""An independent scorer, minicons, gives exported models the same scores of sentences as we give the runs."""

import pytest
import torch
from minicons.scorer import IncrementalLMScorer, MaskedLMScorer
from transformers import BatchEncoding

from ssl_nlp.methods import CausalLM, MaskedLM
from tests.export.conftest import OLD

PAIRS = [
    ("the dog sees a cat", "the dog see a cat"),
    ("A small bird hears the red house.", "A small birds hears the red house."),
    ("unbelievable otherworldly things happen", "unbelievable otherworldly things happens"),
]
SENTENCES = [sentence for pair in PAIRS for sentence in pair]


def test_the_likelihood_of_a_sentence_and_its_end(exports):
    method = CausalLM.load_from_checkpoint(OLD / "causal_lm" / "checkpoints" / "last.ckpt")
    scorer = IncrementalLMScorer(str(exports / "exports" / "causal_lm-transformers"), "cpu")
    for sentence, nats in zip(SENTENCES, method.score(SENTENCES).nats.tolist(), strict=True):
        ids = torch.tensor([[*scorer.tokenizer(sentence)["input_ids"], method.tokenizer.end_id]])
        given = BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        assert scorer.sequence_score(given, reduction=total) == [pytest.approx(nats, rel=1e-5)]


@pytest.mark.parametrize("metric", ["original", "within_word_l2r"])
def test_the_pseudo_likelihood_in_both_forms(metric, exports):
    method = MaskedLM.load_from_checkpoint(OLD / "masked_lm" / "checkpoints" / "last.ckpt")
    scorer = MaskedLMScorer(str(exports / "exports" / "masked_lm-transformers"), "cpu")
    found = (method.score if metric == "original" else method.pseudo_score)(SENTENCES)
    for sentence, nats in zip(SENTENCES, found.nats.tolist(), strict=True):
        given = scorer.tokenizer([sentence])
        assert scorer.sequence_score(given, reduction=total, PLL_metric=metric) == [pytest.approx(nats, rel=1e-5)]


def total(scores: torch.Tensor) -> float:
    return -float(scores.sum())
