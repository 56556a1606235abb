"""Batches that are accumulated into one step: each term is divided by its targets in all of them."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn

from ssl_nlp.data import TextDataModule, TokenBatch, TokenizerSettings
from ssl_nlp.data.loader import Lookahead
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Loss, MaskedLM, Method, MultiObjective, Optimization, SimCLR, Term
from ssl_nlp.training.callbacks import Throughput
from ssl_nlp.training.callbacks.checkpoints import Checkpoints, DurableCheckpointIO
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(9, longest=12), random_texts(3, seed=1))


def data(batch_size: int = 2) -> TextDataModule:
    settings = TokenizerSettings(vocab_size=320)
    return TextDataModule(CORPUS, settings, unit="sentence", length=64, batch_size=batch_size, seed=0)


def encoder() -> Transformer:
    return Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)


class Unequal(Method):
    """Two terms whose targets are not in proportion: real tokens, and rows but for those of an odd length."""

    def __init__(self, encoder: Transformer, weight: float = 3.0, optimization: Optimization | None = None) -> None:
        super().__init__(encoder, optimization)
        self.weight = weight
        self.seen: list[dict[str, tuple[Tensor, Tensor]]] = []

    def loss(self, batch: TokenBatch) -> Loss:
        hidden = self.encoder(batch)
        even = batch.is_text.sum(dim=1) % 2 == 0
        terms = {
            "tokens": Term((hidden[..., :5].exp().sum(dim=2) * batch.is_text).sum(), batch.is_text.sum()),
            "rows": Term((hidden[:, 0, :3].exp().sum(dim=1) * even).sum(), even.sum(), self.weight),
        }
        return Loss(terms)


class Watched(Unequal):
    """Keeps the batches of each step, and the gradients with which it is done."""

    def __init__(self, encoder: Transformer, optimization: Optimization) -> None:
        super().__init__(encoder, optimization=optimization)
        self.steps: list[tuple[list[TokenBatch], dict[str, Tensor]]] = []
        self.batches: list[TokenBatch] = []

    def loss(self, batch: TokenBatch) -> Loss:
        if torch.is_grad_enabled():
            self.batches.append(batch)
        return super().loss(batch)

    def on_before_optimizer_step(self, optimizer: object) -> None:
        gradients = {name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None}
        self.steps.append((self.batches, gradients))
        self.batches = []


def trainer(**arguments: object) -> Trainer:
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "enable_checkpointing": False,
        "limit_val_batches": 0,
    }
    return Trainer(accelerator="cpu", **quiet | arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "sizes", "precision"),
    [(5, [2, 2, 1], "32-true"), (3, [2, 1], "32-true"), (5, [2, 2, 1], "64-true")],
    ids=["all of an epoch", "a part of it", "batches converted to another precision"],
)
def test_gradients_are_those_of_each_terms_mean_over_the_whole_window(limit, sizes, precision):
    """The last window of an epoch is shorter, also where the trainer ends the epoch before the data do."""
    still = Optimization(learning_rate=1e-12, schedule="constant", warmup=0)
    method, module = Watched(encoder(), still), data()
    arguments = {"max_epochs": 1, "limit_train_batches": limit, "precision": precision}
    trainer(accumulate_grad_batches=2, **arguments).fit(method, module)
    assert [len(batches) for batches, _ in method.steps] == sizes
    for batches, gradients in method.steps:
        method.zero_grad()
        losses = [Unequal.loss(method, batch) for batch in batches]
        for name in ("tokens", "rows"):
            terms = [loss.terms[name] for loss in losses]
            total, targets = sum(term.total for term in terms), sum(int(term.targets) for term in terms)
            (total * terms[0].weight / max(targets, 1)).backward(retain_graph=True)
        for name, parameter in method.named_parameters():
            assert torch.allclose(parameter.grad, gradients[name], atol=1e-6), name
    assert len({tuple(int(Unequal.loss(method, b).terms["rows"].targets) for b in bs) for bs, _ in method.steps}) > 1


def test_several_objectives_count_what_they_will_mask():
    """The counting pass draws the masks that the training pass draws: its targets are those of the losses."""
    counted: list[dict[str, int]] = []
    trained: list[dict[str, int]] = []

    class Recording(MultiObjective):
        def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
            counts = dict(super().count_targets(batch))
            counted.append({name: int(number) for name, number in counts.items()})
            return counts

        def loss(self, batch: TokenBatch) -> Loss:
            loss = super().loss(batch)
            if torch.is_grad_enabled():
                trained.append({name: int(term.targets) for name, term in loss.terms.items()})
            return loss

    parts = [SimCLR(), MaskedLM(masking_unit="word")]
    method = Recording(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.3), parts)
    trainer(accumulate_grad_batches=2, max_steps=3).fit(method, data(3))
    assert counted == trained and len({tuple(numbers.values()) for numbers in counted}) > 1


def test_a_resumed_epoch_accumulates_as_its_scheduler_says(tmp_path):
    def fit(path: Path | None = None) -> MaskedLM:
        torch.manual_seed(0)
        method = MaskedLM(encoder(), optimization=Optimization(schedule="constant", warmup=0))
        callbacks = [GradientAccumulationScheduler({0: 2}), Checkpoints(tmp_path, every=3, resumes=path is not None)]
        runner = trainer(max_epochs=1, callbacks=callbacks, enable_checkpointing=True, plugins=[DurableCheckpointIO()])
        runner.fit(method, data(1), ckpt_path=path, weights_only=True)
        return method

    whole = fit()
    shutil.copy(tmp_path / "previous.ckpt", tmp_path / "a.ckpt")  # of step 3 of 5
    resumed = fit(tmp_path / "a.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


class Reporting(MaskedLM):
    """Reports given losses, one a validation."""

    losses = (math.nan, 2.0, math.nan, 3.0)

    def summarize(self, means, statistics):
        return {"loss": torch.tensor(self.losses[self.step - 1])}


def test_the_best_checkpoint_is_never_replaced_by_one_without_a_number(tmp_path):
    keep = Checkpoints(tmp_path, every=9)
    each = {"val_check_interval": 1, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    more = {"max_steps": 4, "callbacks": [keep], "enable_checkpointing": True, "plugins": [DurableCheckpointIO()]}
    trainer(**each, **more).fit(Reporting(encoder()), data(2))
    assert keep.best == 2
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 2


class Normalized(Method):
    def build(self) -> None:
        self.norm = nn.BatchNorm1d(16)

    def loss(self, batch: TokenBatch) -> Loss:
        hidden = self.norm(self.encoder(batch)[batch.is_text])
        return Loss({"square": Term(hidden.square().sum(), batch.is_text.sum())})


def test_the_counting_pass_and_that_for_flops_leave_the_statistics_of_batch_norm_alone():
    method = Normalized(encoder())
    trainer(accumulate_grad_batches=2, max_epochs=1, callbacks=[Throughput()]).fit(method, data())
    assert method.norm.num_batches_tracked == 5


def test_a_training_resumes_from_the_end_of_an_epoch(tmp_path):
    """Also with a checkpoint of the trainer after `fit`, from which Lightning counts on behind the epoch's last batch."""
    first = trainer(accumulate_grad_batches=2, max_steps=3)
    first.fit(MaskedLM(encoder()), data())
    first.save_checkpoint(tmp_path / "a.ckpt")
    resumed = trainer(accumulate_grad_batches=2, max_steps=5)
    resumed.fit(MaskedLM(encoder()), data(), ckpt_path=tmp_path / "a.ckpt")
    assert resumed.global_step == 5


def test_data_that_cannot_look_ahead_are_refused():
    method, module = Unequal(encoder()), data()
    method.connect(module.tokenizer)
    with pytest.raises(UserError, match="accumulate_grad_batches needs a TextDataModule"):
        trainer(accumulate_grad_batches=2, max_steps=1).fit(method, train_dataloaders=module.train_dataloader())


def test_batches_seen_early_still_come_once_and_in_order():
    batches = [TokenBatch(torch.full((1, 1), n), torch.ones(1, 1)) for n in range(5)]
    ahead = Lookahead(iter(batches))
    first, second = next(ahead), next(ahead)  # a trainer may fetch one more than it uses
    ahead.use(first)
    assert ahead.upcoming(3) == batches[:3]
    ahead.use(TokenBatch(first.input_ids.clone(), first.segment_ids))  # of a validation in between
    ahead.use(second)
    assert ahead.upcoming(3) == batches[1:4] and ahead.upcoming(9) == batches[1:]
    assert list(ahead) == batches[2:]
