import csv
import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from ssl_nlp.corpora import SPLITS, Document, HubDataset
from ssl_nlp.corpora.base import Split, split_of, text_digest
from ssl_nlp.errors import UserError
from tests.end_to_end.cli import CONFIGS

TEXTS = [f"This is text number {i}." for i in range(120)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` finds no earlier test's files by chance."""
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path_factory.mktemp("cache")))


def as_jsonl(directory: Path, split: str, texts: list[str]) -> None:
    lines = [json.dumps({"text": text, "label": f"class {i % 3}"}) for i, text in enumerate(texts)]
    (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def as_csv(directory: Path, split: str, texts: list[str]) -> None:
    with (directory / f"{split}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, f"class {i % 3}") for i, text in enumerate(texts))])


def as_parquet(directory: Path, split: str, texts: list[str], shards: int = 3) -> None:
    """Several shards, with a label that is the number of a class."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["class 0", "class 1", "class 2"])})
    data = Dataset.from_dict({"text": texts, "label": [i % 3 for i in range(len(texts))]}, features=features)
    for index in range(shards):
        shard = data.shard(shards, index, contiguous=True)
        shard.to_parquet(str(directory / f"{split}-{index:05}-of-{shards:05}.parquet"))


def as_saved(directory: Path, split: str, texts: list[str]) -> None:
    data = Dataset.from_dict({"text": texts, "label": [f"class {i % 3}" for i in range(len(texts))]})
    DatasetDict({split: data}).save_to_disk(str(directory))


WRITERS: dict[str, Callable[[Path, str, list[str]], None]] = {
    "jsonl": as_jsonl,
    "csv": as_csv,
    "parquet": as_parquet,
    "saved": as_saved,
}


def texts_of(corpus: HubDataset, split: Split) -> list[str]:
    return [document.text for document in corpus.documents(split)]


def part(split: Split, texts: list[str] = TEXTS, valid: float = 0.2, test: float = 0.2) -> list[str]:
    return [text for text in texts if split_of(text_digest(text), valid, test) == split]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("format", WRITERS)
def test_shares_of_a_local_directory(tmp_path: Path, format: str, streaming: bool) -> None:
    data = tmp_path / "data"
    data.mkdir()
    WRITERS[format](data, "train", TEXTS)
    corpus = HubDataset(str(data), valid=0.2, test=0.2, label="label", streaming=streaming)
    for split in SPLITS:
        expected = [Document(text, f"class {i % 3}") for i, text in enumerate(TEXTS) if text in part(split)]
        assert expected
        assert list(corpus.documents(split)) == expected


@pytest.mark.parametrize("format", WRITERS)
def test_all_readers_of_a_stream_together_have_the_training_documents(tmp_path: Path, format: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    WRITERS[format](data, "train", TEXTS)
    corpus = HubDataset(str(data), valid=0.2, test=0.2, label="label", streaming=True, window=10)
    streams = [corpus.stream(rank, 2, epoch=1, seed=5) for rank in range(2)]
    documents = [document for stream in streams for document in stream]
    assert sorted(documents, key=lambda d: d.text) == sorted(corpus.documents("train"), key=lambda d: d.text)
    state = streams[0].state_dict()
    resumed = corpus.stream(0, 2, seed=5)
    resumed.load_state_dict(state)
    assert list(resumed) == []


def test_plain_text_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.txt").write_text("\n".join(TEXTS))
    for streaming in (False, True):
        assert texts_of(HubDataset(str(data), valid=0.2, test=0.2, streaming=streaming), "train") == part("train")


def test_data_files_of_a_format(tmp_path: Path) -> None:
    as_jsonl(tmp_path, "a", TEXTS[:60])
    as_jsonl(tmp_path, "b", TEXTS[60:])
    files: dict[str, Any] = {"train": str(tmp_path / "a.jsonl"), "dev": [str(tmp_path / "b.jsonl")]}
    corpus = HubDataset("json", data_files=files, valid="dev", test=None)
    assert (texts_of(corpus, "train"), texts_of(corpus, "valid")) == (TEXTS[:60], TEXTS[60:])


def test_a_data_set_that_was_saved_without_splits_is_train(tmp_path: Path) -> None:
    Dataset.from_dict({"text": TEXTS}).save_to_disk(str(tmp_path / "data"))
    assert texts_of(HubDataset(str(tmp_path / "data"), valid=0.2, test=0.2), "train") == part("train")


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Splits by name, which have texts in common."""
    data = tmp_path / "leaking"
    data.mkdir()
    as_parquet(data, "train", ["a", "b", "c", "d", "a", "e", "f"])
    as_parquet(data, "validation", ["b", "g", "h"], shards=1)
    as_parquet(data, "test", ["g", "c", "i"], shards=1)
    return data


def test_named_splits_do_not_leak(leaking: Path) -> None:
    corpus = HubDataset(str(leaking), valid="validation", test="test")
    assert [texts_of(corpus, split) for split in SPLITS] == [["a", "d", "e", "f"], ["b", "h"], ["g", "c", "i"]]


def test_named_splits_do_not_leak_into_a_stream(leaking: Path) -> None:
    corpus = HubDataset(str(leaking), valid="validation", test="test", streaming=True)
    assert [texts_of(corpus, split) for split in SPLITS[1:]] == [["b", "h"], ["g", "c", "i"]]
    assert texts_of(corpus, "train") == ["a", "d", "a", "e", "f"]  # a stream may repeat itself, nothing else
    assert sorted(document.text for document in corpus.stream(0, 1)) == ["a", "a", "d", "e", "f"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("shares", [False, True])
def test_pairs_do_not_leak(tmp_path: Path, streaming: bool, shares: bool) -> None:
    rows = [{"text": f"text {i}", "de": f"Satz {i % 70}"} for i in range(200)]
    parts = {"train": rows} if shares else {"train": rows[:150], "validation": rows[150:180], "test": rows[180:]}
    for name, part in parts.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    valid, test = (0.1, 0.1) if shares else ("validation", "test")
    corpus = HubDataset(str(tmp_path), valid=valid, test=test, pair="de", streaming=streaming)
    pairs = {split: {document.pair for document in corpus.documents(split)} for split in SPLITS}
    if streaming:
        assert pairs["train"] == {document.pair for document in corpus.stream(0, 1)}
    assert all(pairs.values())
    assert not (pairs["train"] & pairs["valid"] or pairs["train"] & pairs["test"] or pairs["valid"] & pairs["test"])


def test_a_blank_pair_names_its_record(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a", "b"], "de": ["A", None]}).to_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(UserError, match="field `de` is blank beside 'b'"):
        list(HubDataset(str(tmp_path), pair="de", valid=0.01, test=None).documents("train"))


class InWorkers(torch.utils.data.IterableDataset[str]):
    """As a data module reads it: each worker is a reader."""

    def __init__(self, corpus: HubDataset) -> None:
        self.corpus = corpus

    def __iter__(self) -> Iterator[str]:
        info = torch.utils.data.get_worker_info()
        assert info is not None
        yield from (document.text for document in self.corpus.stream(info.id, info.num_workers))


def test_named_splits_do_not_leak_into_the_workers_of_a_data_loader(leaking: Path) -> None:
    corpus = HubDataset(str(leaking), valid="validation", test="test", streaming=True)
    loader = torch.utils.data.DataLoader(InWorkers(corpus), None, num_workers=2, multiprocessing_context="fork")
    assert sorted(loader) == ["a", "a", "d", "e", "f"]


def test_at_most_so_many_documents_of_a_stream(tmp_path: Path) -> None:
    as_parquet(tmp_path, "train", TEXTS)
    as_parquet(tmp_path, "validation", [f"valid {i}" for i in range(50)])
    shares = HubDataset(str(tmp_path), valid=0.2, test=0.2, streaming=True, max_eval_documents=5)
    assert texts_of(shares, "valid") == part("valid")[:5]
    named = HubDataset(str(tmp_path), valid="validation", test=0.2, streaming=True, max_eval_documents=5)
    assert texts_of(named, "valid") == [f"valid {i}" for i in range(5)]
    assert texts_of(named, "train") == part("train", valid=0)


def test_a_stream_is_read_as_far_as_needed(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(4500)]
    as_parquet(tmp_path, "train", texts)
    (tmp_path / "train-00002-of-00003.parquet").write_bytes(b"broken")
    corpus = HubDataset(str(tmp_path), valid=0.2, test=0.2, streaming=True)
    assert [document.text for document in islice(corpus.documents("train"), 10)] == part("train", texts)[:10]


def test_no_label_and_blank_texts(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
    rows = {"text": ["a", None, " ", "b", "c"], "label": [0, 0, 0, -1, None]}
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "train.parquet"))
    files = str(tmp_path / "*.parquet")
    for streaming in (False, True):
        corpus = HubDataset("parquet", data_files=files, label="label", valid="train", test=None, streaming=streaming)
        assert list(corpus.documents("valid")) == [Document("a", "x"), Document("b", None), Document("c", None)]


def fails(corpus: HubDataset, split: Split = "train") -> str:
    with pytest.raises(UserError) as caught:
        list(corpus.documents(split))
    assert "\n" not in str(caught.value)
    assert corpus.path in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("format", WRITERS)
def test_missing_split_and_column_name_those_that_exist(tmp_path: Path, format: str, streaming: bool) -> None:
    data = tmp_path / "data"
    data.mkdir()
    WRITERS[format](data, "train", TEXTS)
    assert "'train'" in fails(HubDataset(str(data), train="training", streaming=streaming))
    assert "'train'" in fails(HubDataset(str(data), valid="dev", streaming=streaming), "valid")
    for column in ("text", "label", "pair"):
        message = fails(HubDataset(str(data), streaming=streaming, **{column: "body"}))  # type: ignore[arg-type]
        assert "no field `body`" in message
        assert "text, label" in message


def test_no_such_configuration(tmp_path: Path) -> None:
    as_jsonl(tmp_path, "train", TEXTS)
    assert "'default'" in fails(HubDataset(str(tmp_path), name="english"))


@pytest.mark.parametrize("streaming", [False, True])
def test_nothing_there(tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        assert "no such directory, or nothing in it" in fails(HubDataset(str(tmp_path / name), streaming=streaming))


@pytest.mark.parametrize("streaming", [False, True])
def test_hub_out_of_reach(streaming: bool) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "without network, give a local directory" in fails(HubDataset("no/where", streaming=streaming))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("train.jsonl", b'{"text": "a"}\n{"text": "b\n', "JSON parse error"),
        ("train.txt", b"abc\n\xff\xfe\n", "can't decode byte 0xff in position 4"),
        ("train.parquet", b"PAR1 and no more", "Parquet"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, complaint: str, streaming: bool) -> None:
    (tmp_path / name).write_bytes(content)
    assert complaint in fails(HubDataset(str(tmp_path), streaming=streaming))


def test_broken_file_in_a_stream(tmp_path: Path) -> None:
    as_jsonl(tmp_path, "train-0", TEXTS)
    (tmp_path / "train-1.jsonl").write_text('{"text": "a')
    stream = HubDataset(str(tmp_path), streaming=True).stream(0, 1)
    with pytest.raises(UserError, match="JSON parse error"):
        list(stream)


def test_column_that_is_no_text(tmp_path: Path) -> None:
    Dataset.from_dict({"n": [1, 2]}).to_parquet(str(tmp_path / "train.parquet"))
    assert "field `n` holds int, not text" in fails(HubDataset(str(tmp_path), text="n"))


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not streaming"):
        HubDataset(str(tmp_path)).stream(0, 1)
    with pytest.raises(UserError, match="max_eval_documents: 0"):
        HubDataset(str(tmp_path), max_eval_documents=0)
    with pytest.raises(UserError, match="no test split"):
        next(HubDataset(str(tmp_path), test=None).documents("test"))


def test_fingerprint_changes_with_files_and_settings(tmp_path: Path) -> None:
    as_jsonl(tmp_path, "train", TEXTS)
    path = str(tmp_path)
    before = HubDataset(path).fingerprint()
    assert HubDataset(path).fingerprint() == before
    changed = [
        HubDataset(path, valid=0.1),
        HubDataset(path, valid="train"),
        HubDataset(path, label="label"),
        HubDataset(path, pair="label"),
        HubDataset(path, revision="main"),
        HubDataset(path, streaming=True),
        HubDataset(path, streaming=True, max_eval_documents=3),
    ]
    fingerprints = {before, *(corpus.fingerprint() for corpus in changed)}
    as_jsonl(tmp_path, "train", TEXTS[1:])
    fingerprints.add(HubDataset(path).fingerprint())
    assert len(fingerprints) == 9


def test_the_configuration_of_multi30k_names_the_columns_and_splits_of_the_hub(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "validation", "test")):
        record = {"en": f"A dog sees {number} birds.", "de": f"Ein Hund sieht {number} Vögel."}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(record))
    settings = yaml.safe_load((CONFIGS / "data" / "multi30k.yaml").read_text())["data"]["init_args"]["corpus"]
    corpus = HubDataset(**settings["init_args"] | {"path": str(tmp_path), "pair": "de"})
    [document] = corpus.documents("test")
    assert document == Document("A dog sees 2 birds.", pair="Ein Hund sieht 2 Vögel.")
    assert texts_of(corpus, "valid") == ["A dog sees 1 birds."]
