"""Everybody gets the same characters of each text, and what an encoder reads of them is measured."""

import json
from itertools import chain
from pathlib import Path

import pytest
import torch

from ssl_nlp.commands.evaluation_tables import remarks
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer, load_pretrained
from ssl_nlp.encoders import Transformer
from ssl_nlp.evaluation import LanguageModelling, MinimalPairs, Result
from ssl_nlp.evaluation.excerpts import Excerpts, excerpt, with_shares_read
from ssl_nlp.evaluation.files_suite import files_suite
from ssl_nlp.evaluation.record import SuiteResult
from ssl_nlp.evaluation.suite import subset
from ssl_nlp.methods import MaskedLM
from tests.corpus import ListCorpus, random_texts


def test_excerpts_end_with_a_whole_word_of_any_script():
    assert excerpt("short") == "short"
    assert excerpt("The dog barks.", 9) == "The dog"
    assert excerpt("今天天气很好。", 3) == "今天"
    assert excerpt("标题 " + "今天天气很好。" * 9, 21).endswith("今天天气")  # white space is rare
    assert excerpt("x" * 2000) == "x" * 1000
    assert excerpt("word " * 300, None) == "word " * 300
    cut = excerpt("word " * 300, 402)
    assert (len(cut), {*cut.split()}) == (399, {"word"})


def test_nobody_gets_more_than_the_excerpts_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = random_texts(60, longest=9)
    long = [f"{number} {text}. {'More and more of it. ' * 20}".strip() for number, text in enumerate(words)]
    rows = [{"text": text, "pair": f"Pair {text}", "label": str(n % 2)} for n, text in enumerate(long)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alike = "Whoever opens this door, sees the same again and again. " * 9
    more = [{"text": f"{alike}{end}", "label": "1"} for end in range(20)]
    Path("alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + more))
    Path("documents.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(long))
    )
    Path("queries.jsonl").write_text(json.dumps({"_id": "d7", "text": long[7]}) + "\n")
    Path("judgements.tsv").write_text("query-id\tcorpus-id\tscore\nd7\td3\t1\n")
    judged = {"documents": "documents.jsonl", "queries": "queries.jsonl", "judgements": "judgements.tsv"}
    given = {
        "classes": {"task": "classification", "train": "alike.jsonl", "label": "label", "valid": 0.3, "test": 0.3},
        "similar": {"task": "similarity", "test": "rows.jsonl", "score": "label", "valid": 0.3},
        "found": {"task": "retrieval", "test": "rows.jsonl"},
        "search": {"task": "retrieval", **judged},
        "topics": {"task": "clustering", "test": "rows.jsonl", "label": "label"},
        "related": {"task": "pair_classification", "test": "rows.jsonl", "label": "label"},
        "articles": {"task": "language_modelling", "test": "rows.jsonl"},
        "mood": {
            "task": "prompts", "train": "rows.jsonl", "label": "label", "template": "{text} {label}",
            "words": {"0": "bad", "1": "good"},
        },
    }  # fmt: skip
    Path("suite.yaml").write_text(
        json.dumps({"name": "mine", "data": {key: one | {"characters": 50} for key, one in given.items()}})
    )
    suite = files_suite("suite.yaml")
    evaluated = [[*one.texts, *chain(*one.item_texts)] for one in suite.evaluators.values()]
    assert all(evaluated) and max(map(len, chain(*evaluated, suite.train_texts))) == 50
    data = suite.evaluators["classes.knn"].data
    parts = [{*part.texts} for part in (data.train, data.valid, data.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 61  # those that begin alike are one text, in one part
    search = suite.evaluators["search.retrieval"].data
    assert search.documents[search.itself[0]] == search.queries[0]  # although both were cut
    Path("suite.yaml").write_text(json.dumps({"name": "mine", "data": {"a": given["articles"] | {"characters": None}}}))
    assert max(map(len, files_suite("suite.yaml").evaluators["a.language_modelling"].data)) > 400


def test_an_excerpt_is_in_the_split_of_its_text(tmp_path: Path):
    texts = [
        f"{number} {text}. {'More of it. ' * 9}".strip() for number, text in enumerate(random_texts(60, longest=9))
    ]
    (tmp_path / "texts.txt").write_text(
        "\n".join([*texts, *(f"{'The same beginning. ' * 9}{end}" for end in range(20))])
    )
    whole = TextFiles(str(tmp_path / "texts.txt"), 0.3, 0.3, unit="line")
    cut = {split: {one.text for one in Excerpts(whole, 50).documents(split)} for split in ("train", "valid", "test")}
    for split, found in cut.items():
        assert found <= {
            excerpt(one.text, 50) for one in whole.documents(split)
        }  # what a run trains on, it is not asked
    assert len(set.union(*cut.values())) == sum(map(len, cut.values())) == 61


def connected(tokenizer):
    torch.manual_seed(0)
    method = MaskedLM(Transformer(size=None, dim=8, layers=1, heads=1, max_length=12))
    method.connect(tokenizer)
    return method.eval()


@pytest.mark.parametrize("kind", ["bpe", "char", "published"])
def test_an_embedding_depends_on_the_characters_that_are_read_and_on_no_other(kind, tmp_path):
    if kind == "published":  # it ends a text with [SEP]
        from transformers import BertTokenizerFast

        (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdeghinorst"]))
        BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
        tokenizer = load_pretrained(str(tmp_path))
    else:
        tokenizer = get_tokenizer(TokenizerSettings(kind=kind, vocab_size=300), ListCorpus(random_texts(30)))
    method = connected(tokenizer)
    text = "s h o r t i n a d e g t o n b a" if kind == "published" else "the small dog sees a big red house and a tree"
    short, room = text[:5], tokenizer.encode([text[:5]])
    assert len(room[0][0]) <= 12
    read, whole = method.characters_read([text, short])
    assert 5 < read < len(text) and whole == 5
    before, after = text[: read - 1] + "?" + text[read:], text[:read] + " ?" * 9
    with pytest.warns(UserWarning, match="are cut"):
        first, other, same = method.embed([text, before, after])
    assert torch.allclose(first, same, atol=1e-6) and not torch.allclose(first, other, atol=1e-4)


class FirstFour:
    """Reads four characters of each text."""

    def characters_read(self, texts):
        return [min(len(text), 4) for text in texts]


def test_the_share_that_is_read_stands_beside_each_number():
    pairs = MinimalPairs(["a dog"], ["a dogs"], ["number"], ["noun"])
    evaluators = {"mine.language_modelling": LanguageModelling(["a dog barks", "a cat"]), "pairs": pairs}
    results = {name: Result("accuracy", {"accuracy": 0.5}) for name in ("causal.mine.language_modelling", "pairs")}
    found = with_shares_read(results, evaluators, FirstFour())
    assert [one.read for one in found.values()] == [8 / 16, 4 / 5]
    assert Result.from_json(found["pairs"].to_json(), None) == found["pairs"]
    assert with_shares_read(results, evaluators, object()) == results  # it does not say
    target = type("Named", (), {"name": "mine", "text": {"train": "0123456789abcdef"}})()
    assert [*remarks([target], [SuiteResult("data", found)])] == [
        "mine, causal.mine.language_modelling: the encoder cuts texts and reads 50.0% of their characters",
        "mine, pairs: the encoder cuts texts and reads 80.0% of their characters",
        "mine, digests: evaluation items data, train text 0123456789ab",
    ]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_where_there_are_too_many_texts_their_length_does_not_decide_in_any_split(split, tmp_path: Path):
    texts = [f"{number} {'short' if number % 2 else 'long and longer ' * 10}" for number in range(4000)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    corpus = Excerpts(TextFiles(str(tmp_path / "texts.txt"), 0.2, 0.2, unit="line"), 40)
    found = list(corpus.documents(split))
    chosen = subset(found, len(found) // 4, lambda document: document.text)
    short, available = (sum("short" in document.text for document in some) / len(some) for some in (chosen, found))
    assert abs(short - available) < 5 * 0.5 / len(chosen) ** 0.5
