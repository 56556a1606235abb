"""Scores of a whole split are the same, however many processes share its rows. A task is added by a line of `CASES`."""

import json
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Trainer

from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule
from ssl_nlp.methods import CausalLM, MultiObjective
from ssl_nlp.modules import BeamSearch
from ssl_nlp.tasks import QuestionAnswering, RelationExtraction, SequenceToSequence, Tagging, Task
from tests.corpus import caption_texts
from tests.data.test_questions import module as question_data
from tests.tasks.made import QUIET, data_of, tiny
from tests.tasks.test_relations import relation_data
from tests.tasks.test_tagging import people

pytestmark = pytest.mark.slow

RANKS = 2
CASES: dict[str, tuple[Callable[[], Task | MultiObjective], Callable[[], TextDataModule]]] = {
    "tagging": (lambda: Tagging(tiny()), lambda: data_of(list(people(65)), labels="tags")),
    "tagging beside a language model": (
        lambda: MultiObjective(tiny(), [CausalLM(), Tagging()]),
        lambda: data_of(list(people(65)), labels="tags"),
    ),
    "relations": (lambda: RelationExtraction(tiny()), relation_data),
    "questions": (
        lambda: QuestionAnswering(tiny(dim=32, max_length=64), unanswerable=True),
        lambda: question_data(overlap=20),  # many windows a question, which the ranks share
    ),
    "sequence to sequence": (
        lambda: SequenceToSequence(tiny(), decoder_layers=1, search=BeamSearch(beams=2, max_new_tokens=8), decoded=5),
        lambda: data_of([Document(one, pair=other) for one, other in caption_texts(65)], unit="pair"),
    ),
}


def scores(ranks: int) -> dict[str, dict[str, Any]]:
    """The scores of each task, with random weights, and those of its items."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found = {}
    for name, (task, data) in CASES.items():
        torch.manual_seed(0)
        module = task()
        strategy = {"strategy": "ddp", "devices": ranks} if ranks > 1 else {"devices": 1}
        trainer = Trainer(accelerator="cpu", use_distributed_sampler=False, **strategy, **QUIET)
        [metrics] = trainer.validate(module, datamodule=data(), verbose=False)
        items = getattr(module, "objectives", {}).get("tagging", module).last_result.items
        found[name] = {"metrics": metrics, "items": [] if items is None else items.tolist()}
    return found


def work(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": 0, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in place.items()})
    with open(f"{folder}/{rank}.json", "w", encoding="utf-8") as file:
        json.dump(scores(RANKS), file)


def test_two_processes_give_the_scores_of_one(tmp_path):
    alone = scores(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, (str(tmp_path), port), nprocs=RANKS)
    for rank in range(RANKS):
        together = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        for name, one in alone.items():
            assert together[name]["metrics"] == pytest.approx(one["metrics"], rel=1e-6, abs=1e-6), (name, rank)
            assert np.array(together[name]["items"]) == pytest.approx(np.array(one["items"]), abs=1e-6), (name, rank)
            assert len(one["metrics"]) > 2
