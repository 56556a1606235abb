"""The stock side of `language_models_english.py`: GPT-2 of `transformers`, trained on our rows by its `Trainer`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.encoders.transformer import PRESETS, Size
from ssl_nlp.objectives.scores import Likelihood, Scores
from ssl_nlp.training.precision import cpu_multiplies_bfloat16

LENGTH, BATCH = 128, 32  # of a row, and rows of a step, as of the methods


class GPT2:
    """Stock GPT-2 with the tokens of our data. It scores the tokens and the end of a sentence, as CausalLM does."""

    likelihood: Likelihood | None = "likelihood"

    def __init__(self, data: TextDataModule, encoder: Size, dropout: float) -> None:
        self.data = data
        size = PRESETS[encoder]
        self.model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=data.tokenizer.vocab_size, n_positions=LENGTH, n_embd=size["dim"], n_layer=size["layers"],
                n_head=size["heads"], bos_token_id=data.tokenizer.end_id, eos_token_id=data.tokenizer.end_id,
                embd_pdrop=dropout, attn_pdrop=dropout, resid_pdrop=dropout,
            )
        )  # fmt: skip

    @torch.no_grad()
    def score(self, texts: Sequence[str]) -> Scores:
        """The negative log-likelihood of each text and its end."""
        self.model.eval()
        device = self.model.device
        rows = [[*ids, self.data.tokenizer.end_id] for ids, _ in self.data.tokenizer.encode(list(texts))]
        all_targets = torch.tensor([len(row) - 1 for row in rows])
        rows = [row[: LENGTH + 1] for row in rows]
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        nats = torch.zeros(len(rows), dtype=torch.float64)
        for start in range(0, len(rows), 64):
            some = order[start : start + 64]
            ids = _padded([rows[number] for number in some], self.data.tokenizer.pad_id).to(device)
            targets = _padded([rows[number][1:] for number in some], IGNORE_INDEX).to(device)
            logits = self.model(ids[:, :-1]).logits.float()
            losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE_INDEX, reduction="none")
            nats[some] = losses.double().sum(dim=1).cpu()
        return Scores("likelihood", nats, torch.tensor([len(row) - 1 for row in rows]), all_targets)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """(N, longest row) int64."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


@dataclass(frozen=True)
class Stock:
    """How GPT-2 is trained.

    Attributes:
        english: folder with train.jsonl and valid.jsonl.
        encoder: whose width, depth and heads the model has.
        dropout: of embeddings, attention and layers.
        rate: highest learning rate.
        seed: of the weights and of the order of rows.
    """

    english: Path
    encoder: Size
    dropout: float
    rate: float = 0.001
    seed: int = 0


def train_gpt2(stock: Stock, steps: int) -> tuple[GPT2, dict[str, float]]:
    """A model after so many steps of the optimizer, and what it cost."""
    model, seconds = _fit(stock, steps)
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    return model, {"steps": steps, "seconds": seconds, "tokens": steps * BATCH * LENGTH, "parameters": parameters}


def gpt2_step(stock: Stock, trial: int) -> float:
    """Seconds of the clock for a step, without the start: of 2 * `trial` steps."""
    short, long = (_fit(stock, steps)[1] for steps in (trial, 3 * trial))
    return (long - short) / (2 * trial)


def _fit(stock: Stock, steps: int) -> tuple[GPT2, float]:
    """A model after so many steps, and the seconds that they took."""
    train_files, valid_files = (str(stock.english / f"{split}.jsonl") for split in ("train", "valid"))
    data = TextDataModule(TextFiles(train_files, valid_files, None), TokenizerSettings(vocab_size=8192), length=LENGTH)
    rows = data.maker.rows(data.store("train"), data.tokenizer, LENGTH)
    features = [rows[[number]].input_ids[0].tolist() for number in range(len(rows))]
    transformers.set_seed(stock.seed)
    model = GPT2(data, stock.encoder, stock.dropout)
    on_gpu = torch.cuda.is_available()
    settings = transformers.TrainingArguments(
        output_dir="gpt2", max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=stock.rate, seed=stock.seed,
        lr_scheduler_type="cosine", warmup_steps=round(0.05 * steps), weight_decay=0.01, max_grad_norm=1.0,
        bf16=not on_gpu and cpu_multiplies_bfloat16(), use_cpu=not on_gpu, report_to=[], save_strategy="no",
        logging_steps=100, disable_tqdm=True,
    )  # fmt: skip

    def collated(some: list[list[int]]) -> dict[str, Tensor]:
        ids = _padded(some, data.tokenizer.pad_id)
        return {"input_ids": ids, "labels": _padded(some, IGNORE_INDEX)}

    trainer = transformers.Trainer(model.model, settings, train_dataset=features, data_collator=collated)
    start = time.perf_counter()
    trainer.train()
    return model, time.perf_counter() - start
