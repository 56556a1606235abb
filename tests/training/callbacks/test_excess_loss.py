import math

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Recurrent, Transformer
from ssl_nlp.evaluation.limits import Limits
from ssl_nlp.methods import (
    VAE,
    BidirectionalLM,
    CausalLM,
    CausalMaskedLM,
    MaskedDiffusion,
    MaskedLM,
    NGramLM,
    ReplacedToken,
    SimCLR,
)
from ssl_nlp.seeding import seed_generators
from ssl_nlp.training.callbacks import ExcessLoss
from ssl_nlp.training.callbacks.excess_loss import BelowLimit
from ssl_nlp.training.module import VALIDATION_SEED

LANGUAGE = HiddenMarkovLanguage(2, 3, 12, word_concentration=1, longest=20, documents=600, valid=0.2, test=0.1)
PAIRED = HiddenMarkovLanguage(
    3, 3, 12, word_concentration=1, longest=20, documents=600, valid=0.2, test=0.1, same_topic=2, pairs=True
)
METHODS = [(CausalLM, "block"), (CausalLM, "sentence"), (MaskedLM, "block"), (MaskedLM, "sentence")]
METHODS += [(BidirectionalLM, "block"), (CausalMaskedLM, "block"), (lambda encoder: NGramLM(order=2), "sentence")]
METHODS += [(MaskedDiffusion, "block"), (MaskedDiffusion, "sentence"), (VAE, "sentence"), (SimCLR, "pair")]


def fit(method, unit="sentence", kind="word", batches=3, corpus=LANGUAGE, callbacks=()):
    data = TextDataModule(corpus, TokenizerSettings(kind), unit=unit, length=24, batch_size=16, seed=0)
    trainer = Trainer(
        max_steps=2, val_check_interval=1, limit_val_batches=batches, num_sanity_val_steps=1, accelerator="cpu",
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[ExcessLoss(), *callbacks],
    )  # fmt: skip
    trainer.fit(method, data)
    return trainer, data


def small(kind=CausalLM, **settings):
    torch.manual_seed(0)
    if kind is BidirectionalLM:
        return kind(Recurrent(dim=16, separate=True, max_length=32))
    return kind(Transformer(size=None, dim=16, layers=1, heads=2, max_length=32), **settings)


@pytest.mark.parametrize(("kind", "unit"), METHODS)
def test_the_loss_is_that_of_the_validation_and_the_limit_that_of_its_predictions(kind, unit):
    method = small(kind)
    corpus = PAIRED if unit == "pair" else LANGUAGE
    trainer, data = fit(method, unit, corpus=corpus)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    loss = logged.get("val/loss/next_token", logged["val/loss"])  # of several terms, this one
    assert loss == pytest.approx(logged["val/limit"] + logged["val/excess_nats"], abs=1e-5)
    limits, nats, unigrams, targets = Limits(corpus, data.tokenizer), 0.0, 0.0, 0
    method.eval()
    for number, batch in zip(range(3), data.val_dataloader(), strict=False):
        seed_generators(method.device, VALIDATION_SEED, number, 0)
        predictions = method.explain_loss(batch)
        limit, unigram = limits.nats(predictions)
        nats, unigrams = nats + float(limit.sum()), unigrams + float(unigram.sum())
        targets += int(predictions.number.sum())
    assert logged["val/limit"] == pytest.approx(nats / targets, abs=1e-6)
    closed = (unigrams / targets - loss) / (unigrams / targets - logged["val/limit"])
    assert logged["val/gap_closed"] == pytest.approx(closed, abs=1e-4)
    assert logged["val/limit"] < min(unigrams / targets, loss)
    assert ("val/pair_information" in logged) == (unit == "pair")
    if unit == "pair":
        information = logged["val/pair_information"]
        assert information == pytest.approx(PAIRED.pair_information().nats)
        assert logged["val/limit"] > math.log(16) - information  # the rows of a batch are the candidates


def test_the_limit_of_a_detector_follows_its_generator():
    method = small(ReplacedToken)
    found = []

    class Limit(Callback):
        def on_validation_end(self, trainer, module):
            found.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    fit(method, "block", callbacks=[Limit()])
    first, second = (metrics["val/limit"] for metrics in found[-2:])
    assert first != second
    assert 0 < second < second + found[-1]["val/excess_nats"] < 2
    assert second + found[-1]["val/excess_nats"] == pytest.approx(found[-1]["val/loss/discriminator"], abs=0.05)


class Leaking(CausalLM):
    """Pays nothing for its targets."""

    def explain_loss(self, batch):
        found = super().explain_loss(batch)
        return type(found)(found.seen, found.targets, 0 * found.nats)


def test_a_loss_below_its_limit_ends_the_run_unless_there_are_few_rows():
    with pytest.raises(BelowLimit, match="validation at step 1: the loss 0.0000 is below .* in the training data"):
        fit(small(Leaking))
    fit(small(Leaking), batches=1)


@pytest.mark.parametrize(
    ("method", "unit", "kind", "said"),
    [
        (CausalLM, "sentence", "char", "set data.tokenizer.kind to word"),
        (lambda encoder: MaskedLM(encoder, sentence_pairs="next"), "pair", "word", "two texts into a row"),
        (SimCLR, "sentence", "word", "pairs have a limit"),
        (ReplacedToken, "sentence", "char", "kind to word"),
    ],
)
def test_without_a_limit_the_run_goes_on(method, unit, kind, said, capsys):
    trainer, _ = fit(small(method), unit, kind, batches=1, corpus=PAIRED if unit == "pair" else LANGUAGE)
    assert "val/loss" in trainer.callback_metrics and "val/limit" not in trainer.callback_metrics
    error = capsys.readouterr().err
    assert error.count("no val/excess_nats") == 1
    assert said in error
