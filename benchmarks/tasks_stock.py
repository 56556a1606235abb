"""The stock side of `tasks.py`: a class of `transformers` with a head, trained by `transformers.Trainer` on our rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import TrainingArguments

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.export.stock import base_model
from ssl_nlp.tasks import QuestionAnswering, RelationExtraction, Task

AUTO = {
    "Tagging": "AutoModelForTokenClassification",
    "RelationExtraction": "AutoModelForSequenceClassification",  # there is none for relations: it reads [CLS]
    "QuestionAnswering": "AutoModelForQuestionAnswering",
}


@dataclass
class StockSettings:
    """Settings that both sides share."""

    batch: int
    steps: int
    learning_rate: float
    seed: int
    folder: Path | None  # of the published encoder
    bf16: bool  # train in bfloat16 where that is safe


@dataclass
class StockResult:
    """The main metric of the task, and seconds of training."""

    score: float
    seconds: float


def train_stock(task: Task, data: TextDataModule, settings: StockSettings) -> StockResult:
    """Train the stock model on the rows of the data, and score its predictions as those of the task are scored."""
    model = stock_model(task, settings)
    rows = data.maker.rows(data.store("train"), data.tokenizer, data.length)
    features = [feature(task, rows[[number]]) for number in range(len(rows))]
    arguments = TrainingArguments(
        output_dir="unused",
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(0.1 * settings.steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=settings.seed,
        bf16=settings.bf16,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=features,
        data_collator=lambda some: collated(some, data.tokenizer.pad_id),
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    return StockResult(score(task, model.eval(), data), seconds)


def stock_model(task: Task, settings: StockSettings) -> Any:
    """The stock class with the weights of the task's encoder and a new head."""
    names = {} if isinstance(task, QuestionAnswering) else {"num_labels": len(task.classes or [])}
    auto = getattr(transformers, AUTO[type(task).__name__])
    torch.manual_seed(settings.seed)
    if settings.folder is not None:
        return auto.from_pretrained(settings.folder, **names)
    base = base_model(task.encoder)
    for name, value in names.items():
        setattr(base.config, name, value)
    model = auto.from_config(base.config)
    model.base_model.load_state_dict(base.state_dict())
    return model


def feature(task: Task, row: TokenBatch) -> dict[str, list[int] | int]:
    """One row as the stock model reads it."""
    assert row.labels is not None
    ids = row.input_ids[0].tolist()
    found: dict[str, list[int] | int] = {"input_ids": ids, "attention_mask": [1] * len(ids)}
    if isinstance(task, RelationExtraction):
        return found | {"labels": int(row.labels[0, 0, 2])}
    if not isinstance(task, QuestionAnswering):
        return found | {"labels": row.labels[0].tolist()}
    first = row.labels[0, 0].tolist() if row.labels.shape[1] else [IGNORE_INDEX] * 3
    start, stop = (0, 0) if first[0] == IGNORE_INDEX else (first[0], first[1] - 1)
    found |= {"start_positions": start, "end_positions": stop}
    return found | ({"token_type_ids": token_types(row)[0].tolist()} if has_types(task) else {})


def has_types(task: Task) -> bool:
    """Whether the stock model tells question and text apart by token types."""
    return task.encoder.part_embedding is not None


def token_types(batch: TokenBatch) -> Tensor:
    """(B, T): 1 in the window of the text."""
    assert batch.windows is not None
    position = torch.arange(batch.input_ids.shape[1])
    return ((position >= batch.windows[:, :1]) & batch.is_text).long()


def collated(features: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Features padded to the longest one."""
    width = max(len(one["input_ids"]) for one in features)
    fill = {"input_ids": pad_id, "labels": IGNORE_INDEX}

    def padded(name: str, value: Any) -> Any:
        return value + [fill.get(name, 0)] * (width - len(value)) if isinstance(value, list) else value

    return {name: torch.tensor([padded(name, one[name]) for one in features]) for name in features[0]}


@torch.no_grad()
def score(task: Task, model: Any, data: TextDataModule) -> float:
    """The main metric of the stock model's predictions on the valid split."""
    rows = data.maker.rows(data.store("valid"), data.tokenizer, data.length)
    items: list[tuple[int, Any]] = []
    for start in range(0, len(rows), 64):
        batch = rows[range(start, min(start + 64, len(rows)))]
        types = (
            {"token_type_ids": token_types(batch)} if isinstance(task, QuestionAnswering) and has_types(task) else {}
        )
        output = model(input_ids=batch.input_ids, attention_mask=batch.is_text.long(), **types)
        assert batch.documents is not None
        items += zip(batch.documents.tolist(), task.items(logits_of(output, batch), batch), strict=True)
    return task.result([item for _, item in sorted(items, key=lambda item: item[0])]).primary


def logits_of(output: Any, batch: TokenBatch) -> Tensor:
    """The logits in the form of the task's outputs; those of answers outside of the window are -inf."""
    if batch.windows is None:
        logits: Tensor = output.logits
        return logits
    position = torch.arange(batch.input_ids.shape[1])
    possible = (position >= batch.windows[:, :1]) & (position < batch.windows[:, 1:2])
    possible[:, 0] = True
    return torch.stack([output.start_logits, output.end_logits], dim=1).masked_fill(~possible.unsqueeze(1), -torch.inf)
