"""How far a validation loss is from the least possible one, where that is known."""

import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from ssl_nlp import lightning_internals as internals
from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.corpora.synthetic import Information
from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import LossExplainer
from ssl_nlp.evaluation.excess import Excess, ExcessSums
from ssl_nlp.evaluation.limits import Limits
from ssl_nlp.objectives.predictions import Detections
from ssl_nlp.objectives.scores import Unable
from ssl_nlp.seeding import random_state_kept, seed_generators
from ssl_nlp.terminal import say
from ssl_nlp.training.module import VALIDATION_SEED, Module
from ssl_nlp.training.ranks import sum_over_ranks


class BelowLimit(UserError):
    """A loss is lower than any model's can be."""

    status = 1


class ExcessLoss(Callback):
    """On a `HiddenMarkovLanguage`, logs how far the validation loss is from its limit (`ssl_nlp.evaluation.limits`).

    `val/limit` is the least loss that is possible on the same predictions, of the same rows under the same masks;
    `val/excess_nats` is what the loss has beyond it; `val/gap_closed` is the share that is learned of what there is to
    learn beyond the tokens' frequencies, up to 1. A loss that is far below its limit ends the run with an error. Rows count
    as independent, although documents that share a topic follow each other, so the standard error is somewhat too small.
    For texts in pairs, `val/pair_information` is their mutual information I in nats: on average, no contrastive loss among
    N candidates is below log N - I.
    Methods that cannot say what they predict are left alone, and so are other corpora.

    Attributes:
        excess: of the last validation, with its standard error; None where the limit is not known.
    """

    def __init__(self) -> None:
        self.excess: Excess | None = None
        self._limits: Limits | None = None
        self._reason: Unable | None = None  # why there are no limits after all, on this rank
        self._sums = ExcessSums()
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # by batch: most are the same in every validation
        self._information: Information | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.excess, self._limits, self._reason, self._known, self._information = None, None, None, {}, None
        data = internals.datamodule_of(trainer)
        known = isinstance(data, TextDataModule) and isinstance(data.corpus, HiddenMarkovLanguage)
        if stage not in ("fit", "validate") or not known or not isinstance(pl_module, LossExplainer):
            return
        try:
            self._limits = Limits(data.corpus, data.tokenizer)
        except Unable as error:  # the same on all ranks
            _say(error if trainer.is_global_zero else None)
            return
        if data.unit == "pair":
            self._information = data.corpus.pair_information()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._sums = ExcessSums()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int, *more: Any
    ) -> None:
        if self._limits is None or self._reason is not None or trainer.sanity_checking:
            return
        assert isinstance(pl_module, Module) and isinstance(pl_module, LossExplainer)
        try:
            with random_state_kept(pl_module.device):
                seed_generators(pl_module.device, VALIDATION_SEED, batch_idx, pl_module.global_rank)
                with trainer.precision_plugin.val_step_context():
                    explained = pl_module.explain_loss(pl_module.visible(batch))
            if batch_idx not in self._known or isinstance(explained, Detections):  # a generator learns, too
                self._known[batch_idx] = self._limits.nats(explained)
        except Unable as error:
            self._reason = error  # other ranks learn of it at the end
            return
        self._sums.add(explained.nats, *self._known[batch_idx], explained.number)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._limits is None or trainer.sanity_checking:
            return
        unable = torch.tensor([float(self._reason is not None)], dtype=torch.float64)
        *sums, failed = sum_over_ranks(torch.cat([self._sums.sums, unable]).to(pl_module.device)).cpu()
        if failed:
            self._limits = None
            _say(self._reason)
            return
        self._sums.sums = torch.stack(sums)
        self.excess = excess = self._sums.excess()
        if excess is None:
            return
        pl_module.log("val/limit", excess.limit)
        pl_module.log("val/excess_nats", excess.nats)
        if excess.gap_closed is not None:
            pl_module.log("val/gap_closed", excess.gap_closed)
        if self._information is not None:
            pl_module.log("val/pair_information", self._information.nats)
        if excess.impossible is not None:
            raise BelowLimit(f"validation at step {trainer.global_step:,}: {excess.impossible}")


def _say(reason: Unable | None) -> None:
    """Say why there are no limits, on the rank that knows it."""
    if reason is not None:
        say(f"note: no val/excess_nats: {reason}", sys.stderr)
