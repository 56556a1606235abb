"""Planted leaks end a validation with their likely cause, and the same models without the leak pass.

Some models know the language: without a leak their loss is the least that is possible, so that a leak alone can lower it,
however small. The others learn it, and find the leak by themselves.
"""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.limits import Limits
from ssl_nlp.evaluation.limits_suite import ExcessNats
from ssl_nlp.methods import CausalLM, MaskedLM, Optimization
from ssl_nlp.objectives.scores import Scores
from ssl_nlp.training.callbacks import ExcessLoss
from ssl_nlp.training.callbacks.excess_loss import BelowLimit

LANGUAGE = HiddenMarkovLanguage(4, 3, 12, word_concentration=0.3, longest=20, documents=2500, valid=0.5, test=0.05)


def no_leak(limits, found):
    return limits.nats(found)[0]


def one_position_ahead(limits, found):
    """The causal mask shows the target, which the model believes half of the time."""
    targets = (found.targets != IGNORE_INDEX).sum(dim=1)
    return -targets * np.log(0.5 + 0.5 / len(LANGUAGE.words))


def other_documents(limits, found):
    """Attention reaches the document before, and the model takes its topic for that of the next one 8 times of 10."""
    nats, model = limits.nats(found)[0], LANGUAGE.model
    for row, (ids, targets, segments) in enumerate(
        zip(found.seen.input_ids, found.targets, found.seen.segment_ids, strict=True)
    ):
        for segment in range(2, int(segments.max()) + 1):
            before = limits._as_words(ids[segments == segment - 1].numpy())
            own = limits._as_words(targets[segments == segment].numpy())
            shared = model.shared_information(before[None], own[None]).item()
            nats[row] -= np.log(0.8 * np.exp(shared) + 0.2)
    return nats


def one_masked_token_in_a_hundred(limits, found):
    """Some masked tokens are the original, and cost nothing."""
    in_sight = torch.rand(found.targets.shape) < 0.01
    return limits.nats(replace(found, targets=found.targets.masked_fill(in_sight, IGNORE_INDEX)))[0]


def seen_in_training(limits, found):
    """One text of twenty is known by heart."""
    nats = limits.nats(found)[0]
    return torch.where(torch.rand(len(nats)) < 0.05, nats / 10, nats)


class Exact:
    """Takes the loss of a model that knows the language, with a leak, in place of the real one."""

    def explain_loss(self, batch):
        found = super().explain_loss(batch)
        return replace(found, nats=self.leak(Limits(LANGUAGE, self.tokenizer), found))


class ExactCausalLM(Exact, CausalLM):
    pass


class ExactMaskedLM(Exact, MaskedLM):
    pass


class PeekingMaskedLM(MaskedLM):
    """Its masking leaves the original in one masked position of a hundred, and counts it as masked.

    The best predictions from the rows that it reads take the place of learned ones: in seconds, no trained model
    comes as near to the limit as the hundredth of a nat that the leak is worth.
    """

    def _mask(self, batch):
        seen, positions, targets = super()._mask(batch)
        masked = seen.input_ids == self.tokenizer.mask_id
        in_sight = masked & (torch.rand(masked.shape) < self.leak)
        self.read = seen.with_input_ids(torch.where(in_sight, batch.input_ids, seen.input_ids))
        return seen, positions, targets

    def explain_loss(self, batch):
        found = super().explain_loss(batch)
        return replace(found, nats=Limits(LANGUAGE, self.tokenizer).nats(replace(found, seen=self.read))[0])


@cache
def data(unit) -> TextDataModule:
    return TextDataModule(LANGUAGE, TokenizerSettings("word"), unit=unit, length=48, batch_size=400, seed=0)


LEAKS = [(ExactCausalLM, "block", None), (ExactMaskedLM, "sentence", None)]
LEAKS += [(ExactCausalLM, "block", one_position_ahead), (ExactCausalLM, "block", other_documents)]
LEAKS += [(PeekingMaskedLM, "sentence", 0.0), (PeekingMaskedLM, "sentence", 0.01)]
LEAKS += [(ExactMaskedLM, "sentence", one_masked_token_in_a_hundred), (ExactCausalLM, "sentence", seen_in_training)]


@pytest.mark.parametrize(("kind", "unit", "leak"), LEAKS)
def test_a_leak_ends_the_validation_and_nothing_else_does(kind, unit, leak):
    method = kind(Transformer(size=None, dim=4, layers=1, heads=1, max_length=64))
    method.leak = no_leak if leak is None else leak
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[ExcessLoss()],
    )  # fmt: skip
    if not leak:
        trainer.validate(method, data(unit), verbose=False)
        assert float(trainer.callback_metrics["val/excess_nats"]) == pytest.approx(0, abs=1e-6)
        assert float(trainer.callback_metrics["val/gap_closed"]) == pytest.approx(1, abs=1e-6)
        return
    cause = "later tokens or to other documents .* masked tokens that stay visible, or texts .* in the training data"
    with pytest.raises(BelowLimit, match=f"the model sees what it should predict. Likely causes: attention to {cause}"):
        trainer.validate(method, data(unit), verbose=False)


class Memory:
    """Knows the language, and one test text of twenty by heart."""

    likelihood = "likelihood"

    def __init__(self, by_heart: float) -> None:
        self.by_heart = by_heart

    def score(self, texts):
        words = LANGUAGE.as_numbers(texts)
        lengths = (words >= 0).sum(axis=1)
        nats = -(LANGUAGE.model.log_likelihood(words) + np.log(LANGUAGE.lengths[lengths]))
        known = np.random.default_rng(0).random(len(nats)) < self.by_heart
        targets = torch.from_numpy(lengths + 1)
        return Scores("likelihood", torch.from_numpy(np.where(known, nats / 10, nats)), targets, targets)


def test_the_suite_of_limits_finds_texts_that_were_in_the_training_data():
    evaluate = ExcessNats(LANGUAGE, [document.text for document in LANGUAGE.documents("valid")])
    assert evaluate(Memory(0.0)).primary == pytest.approx(0, abs=1e-9)
    with pytest.raises(UserError, match="is below .* texts of this split in the training data"):
        evaluate(Memory(0.05))


class OneAhead(Transformer):
    """Its causal mask lets the next position through."""

    def _masks(self, batch, cache, causal):
        segments = batch.segment_ids
        near = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril(1)
        mask = self._mask(near & (segments[:, :, None] == segments[:, None, :]), is_causal=False)
        return mask, mask


class AcrossDocuments(Transformer):
    """It sees the documents before, of a packed row."""

    def _masks(self, batch, cache, causal):
        return super()._masks(replace(batch, packed=False), cache, causal)


class ValidInTrain(HiddenMarkovLanguage):
    """It trains on the validation texts."""

    def documents(self, split):
        return super().documents("valid")

    def fingerprint(self):
        return f"{super().fingerprint()}-valid"


SHORT = {"shortest": 2, "longest": 4, "stop": 0.5, "same_topic": 16, "documents": 20_000, "valid": 0.1, "test": 0.01}
DISTINCT = HiddenMarkovLanguage(16, 1, 64, word_concentration=0.05, **SHORT)  # a word says which topic it is
FEW = {"topics": 4, "states": 3, "words": 12, "word_concentration": 0.3, "longest": 20, "documents": 640, "valid": 0.1}
LEARNED = [(Transformer, LANGUAGE, "block", 60), (OneAhead, LANGUAGE, "block", 60)]
LEARNED += [(Transformer, DISTINCT, "block", 150), (AcrossDocuments, DISTINCT, "block", 150)]
LEARNED += [
    (Transformer, HiddenMarkovLanguage(**FEW), "sentence", 150),
    (Transformer, ValidInTrain(**FEW), "sentence", 150),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "language", "unit", "steps"), LEARNED)
def test_a_model_that_learns_to_use_a_leak_is_found_out(kind, language, unit, steps):
    torch.manual_seed(0)
    width = 64 if unit == "sentence" else 32  # enough to know 64 texts by heart
    method = CausalLM(kind(size=None, dim=width, layers=1, heads=2, max_length=64))
    method.optimization = Optimization(learning_rate=0.01, warmup=0)
    module = TextDataModule(language, TokenizerSettings("word"), unit=unit, length=48, batch_size=64, seed=0)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_steps=steps,
        enable_checkpointing=False, callbacks=[ExcessLoss()], val_check_interval=steps, check_val_every_n_epoch=None,
        limit_val_batches=20,
    )  # fmt: skip
    leaks = kind is not Transformer or isinstance(language, ValidInTrain)
    with pytest.raises(BelowLimit) if leaks else nullcontext():
        trainer.fit(method, module)
    if not leaks:
        assert float(trainer.callback_metrics["val/excess_nats"]) > 0
