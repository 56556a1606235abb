"""Minimal pairs: both scores beside slow and obvious ones, ties, means over paradigms, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from ssl_nlp.comparison.columns import columns
from ssl_nlp.comparison.contributions import contributions
from ssl_nlp.data import TokenBatch, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Recurrent, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import MinimalPairs, get_suite
from ssl_nlp.evaluation.files_suite import files_suite
from ssl_nlp.evaluation.hub_suites import BLIMP, hub_suite
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.methods import (
    VAE,
    BidirectionalLM,
    CausalLM,
    CausalMaskedLM,
    MaskedDiffusion,
    MaskedLM,
    MultiObjective,
    NGramLM,
)
from ssl_nlp.objectives.scores import Scores
from tests.corpus import ListCorpus, random_texts

TOKENIZER = get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(random_texts(40)))
TEXTS = random_texts(16, seed=1, longest=6)
PAIRS = MinimalPairs(
    [f"the unseen {text}" for text in TEXTS[:8]],  # "unseen" is a word of several tokens
    TEXTS[8:],
    ["agreement"] * 3 + ["islands"] * 5,
    ["morphology"] * 3 + ["syntax"] * 5,
)

ALL = list(dict.fromkeys([*PAIRS.good, *PAIRS.bad]))


def connected(method):
    torch.manual_seed(0)
    method.connect(TOKENIZER)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return method.eval()


def encoder(**options):
    return Transformer(size=None, dim=16, layers=2, heads=2, max_length=64, dropout=0.1, **options)


@torch.no_grad()
def log_p(method, ids, place, target, causal):
    """The log-probability of a token by the state at `place` of a row that is computed alone."""
    batch = TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long), causal=causal)
    return float(method.head(method.states(batch)[0, place]).double().log_softmax(-1)[target])


def slow_likelihood(method, text):
    """Nats of each token given those before it, and of the end."""
    [(ids, _)] = TOKENIZER.encode([text])
    after = [*ids[1:], TOKENIZER.end_id]
    return [-log_p(method, ids[: place + 1], place, target, True) for place, target in enumerate(after)]


def slow_pseudo_likelihood(method, text, shift=0):
    """Nats of each token given the text without it and the later tokens of its word. Words are what spaces separate."""
    [(ids, _, offsets)] = TOKENIZER.encode_with_offsets([text])
    words = [None if place is None else text[: place[0] + 1].count(" ") for place in offsets]
    nats = []
    for place, target in enumerate(ids):
        if target not in TOKENIZER.special_ids:
            hidden = [n >= place and words[n] == words[place] for n in range(len(ids))]
            seen = [TOKENIZER.mask_id if hide else token for hide, token in zip(hidden, ids, strict=True)]
            nats.append(-log_p(method, seen, place - shift, target, False))
    return nats


def slow_accuracies(slow):
    """The mean over paradigms by the sums of nats and by their means, from the nats of each token by text."""
    shares = []
    for mean in (np.sum, np.mean):
        right = {}
        for good, bad, paradigm in zip(PAIRS.good, PAIRS.bad, PAIRS.paradigms, strict=True):
            right.setdefault(paradigm, []).append(mean(slow[good]) < mean(slow[bad]))
        shares.append(np.mean([np.mean(each) for each in right.values()]))
    return shares


def test_the_likelihood_decides_as_one_that_is_computed_token_by_token():
    method = connected(CausalLM(encoder()))
    result = PAIRS(method)
    expected = slow_accuracies({text: slow_likelihood(method, text) for text in ALL})
    assert [result.metrics[name] for name in ("accuracy", "accuracy_per_token")] == pytest.approx(expected)
    assert len(set(expected)) == 2 and list(result.details["minimal_pairs"]) == ["likelihood"]


@pytest.mark.parametrize(("kind", "shift"), [(MaskedLM, 0), (MaskedDiffusion, 0), (CausalMaskedLM, 1)])
def test_the_pseudo_likelihood_hides_the_rest_of_a_word(kind, shift):
    method = connected(kind(encoder()))
    scores = method.train().pseudo_score(PAIRS.good, batch_size=7)
    assert method.training and scores.kind == "pseudo-likelihood"
    method.eval()
    slow = {text: slow_pseudo_likelihood(method, text, shift) for text in ALL}
    assert scores.nats.tolist() == pytest.approx([sum(slow[text]) for text in PAIRS.good], rel=1e-5)
    assert scores.targets.tolist() == scores.all_targets.tolist() == [len(slow[text]) for text in PAIRS.good]
    if kind is MaskedLM:
        assert not torch.allclose(scores.nats, method.score(PAIRS.good).nats, rtol=1e-3)  # which gives words away
    result = PAIRS(method)
    expected = slow_accuracies(slow)
    names = [("" if kind is MaskedLM else "pseudo_") + name for name in ("accuracy", "accuracy_per_token")]
    assert [result.metrics[name] for name in names] == pytest.approx(expected)
    if kind is MaskedDiffusion:
        variances = dict(zip(ALL, method.score(ALL).variances.tolist(), strict=True))
        each = [variances[good] + variances[bad] for good, bad in zip(PAIRS.good, PAIRS.bad, strict=True)]
        error = result.details["minimal_pairs"]["bound"]["standard_error"]
        assert error == pytest.approx(np.sqrt(np.mean(each))) and error > 0
    kinds = {MaskedLM: [], MaskedDiffusion: ["bound"], CausalMaskedLM: ["likelihood"]}[kind] + ["pseudo-likelihood"]
    assert list(result.details["minimal_pairs"]) == kinds


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        (lambda: VAE(encoder(), latent_dim=4), ["bound"]),
        (
            lambda: BidirectionalLM(Recurrent(dim=16, layers=1, separate=True, max_length=64)),
            ["likelihood", "pseudo-likelihood"],
        ),
    ],
)
def test_other_methods_decide_by_the_scores_that_they_have(method, kinds):
    method = connected(method())
    result = PAIRS(method)
    assert list(result.details["minimal_pairs"]) == kinds
    for kind in kinds:
        prefix, score = ("pseudo_", method.pseudo_score) if kind == "pseudo-likelihood" else ("", method.score)
        nats = dict(zip(ALL, score(ALL).nats.tolist(), strict=True))
        right = [nats[good] < nats[bad] for good, bad in zip(PAIRS.good, PAIRS.bad, strict=True)]
        expected = np.mean([np.mean(right[:3]), np.mean(right[3:])])
        assert result.metrics[f"{prefix}accuracy"] == pytest.approx(expected), kind


def test_each_of_several_objectives_decides_and_one_without_a_likelihood_has_a_reason():
    outcome = run_evaluators({"pairs": PAIRS}, connected(MultiObjective(encoder(), [MaskedLM(), CausalLM()])), None)
    assert outcome.results.keys() == {"masked_lm.pairs", "causal_lm.pairs"} and not outcome.missing
    outcome = run_evaluators({"pairs": PAIRS}, object(), None)
    assert outcome.missing == {"pairs": "object gives no likelihood of a text"}


def test_scores_are_in_float32_also_where_training_is_not():
    method = connected(CausalMaskedLM(encoder()))
    expected = method.score(TEXTS).nats, method.pseudo_score(TEXTS).nats
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(method.score(TEXTS).nats, expected[0])
        assert torch.equal(method.pseudo_score(TEXTS).nats, expected[1])


class Table:
    """Scores that are written down: nats and tokens by text."""

    likelihood = "likelihood"

    def __init__(self, **scores):
        self.scores = scores

    def score(self, texts):
        nats, tokens = zip(*(self.scores[text] for text in texts), strict=True)
        targets = torch.tensor(tokens)
        return Scores("likelihood", torch.tensor(nats, dtype=torch.float64), targets, targets)


def test_ties_count_a_half_and_every_paradigm_counts_the_same():
    inf = float("inf")
    table = Table(a=(6.0, 3), bb=(6.00001, 2), c=(4.0, 1), d=(9.0, 9), e=(inf, 2), f=(inf, 2))
    pairs = MinimalPairs(["a", "a", "c", "e"], ["bb", "d", "a", "f"], ["x", "x", "x", "y"], ["m", "m", "m", "n"])
    result = pairs(table)
    x, y = (0.5 + 1 + 1) / 3, 0.5
    per_token = (1 + 0 + 0) / 3, 0.5
    assert result.metrics == pytest.approx({"accuracy": (x + y) / 2, "accuracy_per_token": sum(per_token) / 2})
    details = result.details["minimal_pairs"]["likelihood"]
    assert details["paradigms"]["x"] == {
        "field": "m",
        "pairs": 3,
        "accuracy": pytest.approx(x),
        "accuracy_per_token": pytest.approx(per_token[0]),
    }
    assert details["fields"]["n"] == {"paradigms": 1, "accuracy": 0.5, "accuracy_per_token": 0.5}
    assert (details["pairs"], details["ties"], details["cut"]) == (4, 2, 0)
    # The items give the accuracy back, and the pair of a small paradigm moves it more.
    assert statistic_of(result.items, result.statistic) == pytest.approx(result.primary)
    moved = np.abs(contributions(result.items, result.statistic))
    assert moved.argmax() == 3 and moved[1] == pytest.approx(moved[2])
    # A model that gives no number has no accuracy.
    broken = MinimalPairs(["a", "nan"], ["bb", "c"], ["x", "x"], ["m", "m"])
    outcome = run_evaluators({"pairs": broken}, Table(a=(6.0, 3), bb=(7.0, 2), c=(4.0, 1), nan=(float("nan"), 2)), None)
    assert outcome.missing == {"pairs": "its accuracy is nan"}
    shorter = pairs.shorter()
    assert shorter.metrics == pytest.approx({"accuracy": ((1 + 0.5 + 0.5) / 3 + 0.5) / 2})
    assert list(shorter.details["minimal_pairs"]) == ["length"]
    [column] = columns("mine", "blimp.minimal_pairs", result)
    assert (column.title, column.group, column.higher_is_better, column.unit) == (
        "blimp: minimal pairs accuracy",
        "minimal pairs",
        True,
        "",
    )


def test_sentences_that_the_encoder_is_too_short_for_are_counted():
    method = connected(CausalLM(Transformer(size=None, dim=16, layers=2, heads=2, max_length=8)))
    pairs = MinimalPairs(["a", "a"], ["the dog sees a cat in the red house of the bird", "the"], ["x", "x"], ["m", "m"])
    assert pairs(method).details["minimal_pairs"]["likelihood"]["cut"] == 1


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(*rows, **settings):
    """A suite of one file with these rows."""
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    given = {"task": "minimal_pairs", "test": "pairs.jsonl"}
    Path("suite.yaml").write_text(json.dumps({"name": "mine", "data": {"pairs": given | settings}}))
    return "suite.yaml"


PAIR = {"good": "She sees.", "bad": "She see.", "paradigm": "agreement", "field": "morphology"}


def test_pairs_of_files():
    [(name, found)] = files_suite(write(PAIR, PAIR | {"good": "He sees."})).evaluators.items()
    assert name == "pairs.minimal_pairs"
    assert found == MinimalPairs(["She sees.", "He sees."], ["She see."] * 2, ["agreement"] * 2, ["morphology"] * 2)
    [found] = files_suite(
        write({key: value for key, value in PAIR.items() if key != "field"}, part=None)
    ).evaluators.values()
    assert found.fields == ["all"]


@pytest.mark.parametrize(
    ("rows", "settings", "complaint"),
    [
        ([PAIR], {"label": "UID"}, "no field `UID`"),
        (
            [{"first": "a", "UID": "x"}],
            {},
            "no field `good`; set .* to some of: first, UID",
        ),
        ([{"sentence_good": "a", "sentence_bad": "b", "field": "x"}], {}, "no field `paradigm`"),
        ([PAIR | {"bad": ""}], {}, "field `bad` is blank beside 'She sees.'"),
        ([PAIR | {"paradigm": None}], {}, "the pair 'She sees.' has no paradigm"),
        ([PAIR, PAIR | {"field": "syntax"}], {}, "'agreement' has pairs of the fields 'morphology' and 'syntax'"),
        ([PAIR | {"good": " "}], {}, "pairs has no pairs of sentences"),
        ([PAIR], {"text": None}, "`text: None` is not a valid setting for minimal_pairs"),
    ],
)
def test_every_mistake_has_a_line(rows, settings, complaint):
    with pytest.raises(UserError, match=complaint.replace("`", "\\`")) as caught:
        files_suite(write(*rows, **settings))
    assert "\n" not in str(caught.value)


PUBLISHED = {
    "blimp": ("sentence_good", "sentence_bad", "UID", "field"),
    "zhoblimp": ("sentence_good", "sentence_bad", "UID", "phenomenon"),
    "both": ("good", "bad", "paradigm", "field"),
}
EXPECTED = MinimalPairs(["She sees."], ["She see."], ["agreement"], ["morphology"])


@pytest.mark.parametrize("fields", PUBLISHED.values(), ids=PUBLISHED)
def test_the_names_of_published_fields_are_known(fields):
    row = dict(zip(fields, PAIR.values(), strict=True)) | {"pairID": 0}
    assert files_suite(write(row)).evaluators == {"pairs.minimal_pairs": EXPECTED}
    # What is there under the name that was set is taken.
    other = row | {"good": "A.", "bad": "B.", "paradigm": "p", "field": "f"}
    assert files_suite(write(other)).evaluators["pairs.minimal_pairs"] == MinimalPairs(["A."], ["B."], ["p"], ["f"])


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_published_names_in_tables(ending):
    row = dict(zip(PUBLISHED["blimp"], PAIR.values(), strict=True))
    write(PAIR)
    settings = json.loads(Path("suite.yaml").read_text())
    settings["data"]["pairs"]["test"] = f"pairs.{ending}"
    Path("suite.yaml").write_text(json.dumps(settings))
    if ending == "parquet":
        Dataset.from_list([row]).to_parquet("pairs.parquet")
    else:
        separator = "," if ending == "csv" else "\t"
        Path(f"pairs.{ending}").write_text("\n".join(separator.join(line) for line in (row, row.values())))
    assert files_suite("suite.yaml").evaluators == {"pairs.minimal_pairs": EXPECTED}


CHINESE = [
    ("他把信寄走了。", "他把信寄。", "BA_with_result", "BA"),
    ("我把窗关上了。", "我把窗关。", "BA_with_result", "BA"),
    ("桌上有三本书。", "桌上有三书本。", "classifiers", "nominal_expression"),
    ("谁也没有来。", "谁也没有来了了。", "negation", "nominal_expression"),
    ("弟弟骑一匹马。", "弟弟骑一匹猫。", "classifiers", "nominal_expression"),
]


def test_chinese_pairs():
    """Length and an n-gram of characters decide them as they can be decided by hand."""
    evaluator = files_suite(
        write(*(dict(zip(("good", "bad", "paradigm", "field"), pair, strict=True)) for pair in CHINESE))
    ).evaluators["pairs.minimal_pairs"]
    shorter = evaluator.shorter().details["minimal_pairs"]["length"]
    # Of BA_with_result, the bad sentences are shorter; of the classifiers, both are as long.
    assert {name: one["accuracy"] for name, one in shorter["paradigms"].items()} == {
        "BA_with_result": 0,
        "classifiers": 0.5,
        "negation": 1,
    }
    assert shorter["accuracy"] == pytest.approx(0.5) and shorter["ties"] == 2
    assert {name: one["paradigms"] for name, one in shorter["fields"].items()} == {"BA": 1, "nominal_expression": 2}
    assert shorter["fields"]["nominal_expression"]["accuracy"] == pytest.approx(0.75)

    texts = ["他把信寄走了。", "我把窗关上了。", "桌上有三本书。", "谁也没有来。"]
    method = NGramLM(order=2)
    method.connect(get_tokenizer(TokenizerSettings(kind="char", vocab_size=300), ListCorpus(texts)))
    method.count(np.array(ids) for ids, _ in method.tokenizer.encode(texts))
    details = evaluator(method).details["minimal_pairs"]["likelihood"]
    # It has never seen the characters 马 and 猫: the pair is a tie.
    right = {"BA_with_result": 1, "classifiers": 0.75, "negation": 1}
    assert {name: one["accuracy"] for name, one in details["paradigms"].items()} == right
    assert details["ties"] == 1


def test_blimp_from_the_hub(tmp_path):
    """A local copy of its shape: a configuration for each paradigm, with the split train."""
    names = ("agreement", "islands")
    for name in names:
        row = {
            "sentence_good": f"good {name}",
            "sentence_bad": f"bad {name}",
            "field": "syntax",
            "UID": name,
            "pair_id": 0,
        }
        (tmp_path / "blimp" / name).mkdir(parents=True)
        # A sentence may stand in several pairs, and may be long.
        rows = [row, row | {"sentence_bad": "worse", "pair_id": 1}, row | {"sentence_good": "word " * 500}]
        Dataset.from_list(rows).to_parquet(tmp_path / "blimp" / name / "train-00000-of-00001.parquet")
    parts = [{"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train-*"}]} for name in names]
    (tmp_path / "blimp" / "README.md").write_text(f"---\nconfigs: {json.dumps(parts)}\n---\n")
    suite = hub_suite("minimal_pairs", {"blimp": replace(BLIMP, path=str(tmp_path / "blimp"))})
    [(name, pairs)] = suite.evaluators.items()
    assert name == "blimp.minimal_pairs"
    assert pairs.good[:3] == ["good agreement", "good agreement", "word " * 500]
    assert pairs.bad == [text for name in names for text in (f"bad {name}", "worse", f"bad {name}")]
    assert pairs.paradigms == ["agreement"] * 3 + ["islands"] * 3 and pairs.fields == ["syntax"] * 6


def test_without_the_hub_one_line_says_how_to_name_files():
    with pytest.raises(UserError, match=r"nyu-mll/blimp.*copy of configs/suites/minimal_pairs\.yaml") as caught:
        get_suite("minimal_pairs")
    assert "\n" not in str(caught.value)
