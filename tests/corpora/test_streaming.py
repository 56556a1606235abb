import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
from datasets import Dataset, IterableDataset, load_dataset
from pyarrow import parquet
from torch.utils.data import DataLoader, get_worker_info

from ssl_nlp.corpora import Document
from ssl_nlp.corpora.streaming import DocumentStream
from ssl_nlp.errors import UserError

SIZES = [7, 2, 23, 1, 40, 12]  # records of each shard


def to_document(record: dict[str, Any]) -> Document | None:
    """Every fifth record is not for training."""
    return None if int(record["text"]) % 5 == 0 else Document(record["text"])


WANTED = [str(i) for i in range(sum(SIZES)) if i % 5]


def write_shards(directory: Path, format: str) -> None:
    start = 0
    for shard, size in enumerate(SIZES):
        texts = [str(i) for i in range(start, start + size)]
        path = directory / f"train-{shard}.{format}"
        if format == "parquet":
            parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=5)
        else:
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        start += size


@pytest.fixture(params=["parquet", "jsonl", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], IterableDataset]:
    """Opens the same records anew, as another process would."""
    if request.param == "memory":
        texts = [str(i) for i in range(sum(SIZES))]
        return lambda: Dataset.from_dict({"text": texts}).to_iterable_dataset(num_shards=len(SIZES))
    write_shards(tmp_path, request.param)
    return lambda: load_dataset(str(tmp_path), split="train", streaming=True)


def stream(source: Callable[[], IterableDataset], rank: int = 0, ranks: int = 1, **settings: Any) -> DocumentStream:
    return DocumentStream(source(), to_document, "source", rank, ranks, **settings)


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("ranks", [1, 2, 4, 6, 8])
def test_every_document_has_one_reader(source: Callable[[], IterableDataset], ranks: int, epoch: int) -> None:
    texts = [d.text for rank in range(ranks) for d in stream(source, rank, ranks, epoch=epoch, window=10)]
    assert sorted(texts, key=int) == WANTED


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("ranks", [1, 4, 8])
def test_resuming_anywhere_gives_what_would_have_come(
    source: Callable[[], IterableDataset], ranks: int, epoch: int, tmp_path: Path
) -> None:
    settings = {"rank": ranks - 1, "ranks": ranks, "seed": 3, "window": 8}
    whole = stream(source, **settings, epoch=epoch)
    texts, states = [], [whole.state_dict()]
    for document in whole:
        texts.append(document.text)
        states.append(whole.state_dict())
    for position in sorted({0, 1, 7, 8, len(texts) // 2, len(texts) - 1, len(texts)} & set(range(len(states)))):
        torch.save(states[position], tmp_path / "state.pt")
        resumed = stream(source, **settings)
        resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert [document.text for document in resumed] == texts[position:]


def test_the_state_holds_no_text_and_stays_small(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": [f"secret {i}" for i in range(500)]}), tmp_path / "train.parquet")
    source = load_dataset(str(tmp_path), split="train", streaming=True)
    documents = DocumentStream(source, lambda record: Document(record["text"]), "source", 0, 1, window=400)
    for _ in documents:
        state = json.dumps(documents.state_dict())
        assert "secret" not in state
        assert len(state) < 1000


def test_order_depends_on_seed_and_epoch_alone(source: Callable[[], IterableDataset]) -> None:
    def texts(**settings: Any) -> list[str]:
        return [document.text for document in stream(source, **settings)]

    assert texts(seed=1) == texts(seed=1)
    orders = [texts(seed=1), texts(seed=2), texts(seed=1, epoch=1), texts(seed=1, epoch=2), WANTED]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_shards_come_in_another_order_in_later_epochs(source: Callable[[], IterableDataset]) -> None:
    orders = [[document.text for document in stream(source, epoch=epoch, window=1)] for epoch in range(3)]
    assert orders[0] == WANTED
    assert len({tuple(order) for order in orders}) == 3


def test_documents_stay_within_their_window(source: Callable[[], IterableDataset]) -> None:
    texts = [document.text for document in stream(source, window=20)]
    for start in range(0, sum(SIZES), 20):
        window = [text for text in WANTED if start <= int(text) < start + 20]
        assert sorted(texts[: len(window)], key=int) == window
        del texts[: len(window)]


def test_a_stream_ends_after_its_epoch(source: Callable[[], IterableDataset]) -> None:
    documents = stream(source)
    assert len(list(documents)) == len(WANTED)
    assert list(documents) == []  # it stands at its end


class Texts(torch.utils.data.IterableDataset[str]):
    """As a data module reads it: each worker is a reader."""

    def __init__(self, source: Callable[[], IterableDataset]) -> None:
        self.source = source

    def __iter__(self) -> Iterator[str]:
        info = get_worker_info()
        assert info is not None
        for document in stream(self.source, info.id, info.num_workers, window=4):
            yield document.text


@pytest.mark.parametrize("shards", [len(SIZES), 1])  # more and fewer than workers
def test_in_the_workers_of_a_data_loader(tmp_path: Path, shards: int) -> None:
    if shards == 1:
        parquet.write_table(pyarrow.table({"text": [str(i) for i in range(sum(SIZES))]}), tmp_path / "train.parquet")
    else:
        write_shards(tmp_path, "parquet")
    dataset = Texts(lambda: load_dataset(str(tmp_path), split="train", streaming=True))
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(loader, key=int) == WANTED


def test_a_state_of_other_settings_is_refused(source: Callable[[], IterableDataset]) -> None:
    state = stream(source, 0, 2).state_dict()
    with pytest.raises(UserError, match="ranks was 2 and is 4 now"):
        stream(source, 0, 4).load_state_dict(state)


def test_more_readers_than_documents() -> None:
    source = Dataset.from_dict({"text": ["1", "5"]}).to_iterable_dataset()
    assert len(list(DocumentStream(source, to_document, "source", 0, 2))) == 1
    with pytest.raises(UserError, match="no training document for reader 1 of 2"):
        list(DocumentStream(source, to_document, "source", 1, 2))


def test_impossible_rank(source: Callable[[], IterableDataset]) -> None:
    with pytest.raises(ValueError, match="rank 2 is not one of 2"):
        stream(source, 2, 2)
