"""Adversarial training and R-Drop: what they add to the loss of a task, and what a validation reports."""

import math

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import ModernBertConfig, ModernBertModel

from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM
from ssl_nlp.objectives.agreement import symmetric_bernoulli_kl, symmetric_kl
from ssl_nlp.tasks import Adversarial, Classification, QuestionAnswering, RDrop, Regression, SequenceToSequence
from ssl_nlp.tasks.adversarial import _direction
from ssl_nlp.tasks.regularizers import _drops
from ssl_nlp.training import Optimization
from tests.data import test_questions
from tests.tasks.corpora import QUIET, fitted, tiny, topics


def task_of(kind=Classification, labels="class", dropout=0.0, **settings):
    task = kind(tiny(dropout), optimization=Optimization(learning_rate=0.01), **settings)
    task.connect_data(topics(labels), "fit")
    return task.train(), next(iter(topics(labels).val_dataloader()))


# --------------------------------------------------------------------------------------------------------------- divergence


def test_the_divergence_is_half_of_both_kullback_leibler_divergences():
    torch.manual_seed(0)
    one, other = torch.randn(2, 3, 4, dtype=torch.float64)
    for p, q, found in zip(one.softmax(-1), other.softmax(-1), symmetric_kl(one, other), strict=True):
        slow = sum(a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p.tolist(), q.tolist(), strict=True)) / 2
        assert float(found) == pytest.approx(slow, rel=1e-5)
    two = torch.stack([torch.zeros_like(one), one], -1), torch.stack([torch.zeros_like(one), other], -1)
    torch.testing.assert_close(symmetric_bernoulli_kl(one, other), symmetric_kl(*two))


def test_r_drop_adds_the_divergence_of_two_passes():
    task, batch = task_of(dropout=0.3)
    task.regularizers = [RDrop(3.0)]
    torch.manual_seed(1)
    found = task.loss(batch).terms
    torch.manual_seed(1)
    one, other = task.outputs(batch), task.outputs(batch)
    assert not torch.equal(one, other)
    losses = [task.loss_of(outputs, batch).terms["classification"].total for outputs in (one, other)]
    torch.testing.assert_close(found["classification"].total, sum(losses) / 2)
    assert found["r_drop"].weight == 3.0 and found["r_drop"].targets == 8
    torch.testing.assert_close(found["r_drop"].total, symmetric_kl(one, other).sum() / 2)


def test_r_drop_compares_the_start_and_the_end_of_an_answer():
    """Places outside of the window are impossible in both passes, and add nothing."""
    data = test_questions.module()
    task = QuestionAnswering(tiny(0.3), optimization=Optimization(learning_rate=0.01))
    task.connect_data(data, "fit")
    batch = data.rows("train")[range(5)]
    task.train().regularizers = [RDrop()]
    torch.manual_seed(1)
    term = task.loss(batch).terms["r_drop"]
    torch.manual_seed(1)
    passes = [task.outputs(batch).detach().double().softmax(-1).tolist() for _ in range(2)]
    apart = 0.0
    for window, again in zip(*passes, strict=True):
        for one, other in zip(window, again, strict=True):  # the start, and the end
            apart += sum((p - q) * math.log(p / q) / 2 for p, q in zip(one, other, strict=True) if p > 0) / 2
    assert term.targets == 5
    assert float(term.total.detach()) == pytest.approx(apart / 2, rel=1e-4)
    term.total.backward()
    assert all(weight.grad.isfinite().all() for weight in task.parameters() if weight.grad is not None)


def test_r_drop_without_dropout_adds_nothing_and_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="nothing that is trained has a dropout rate above 0: set model.encoder.dropout"
    ):
        fitted(Classification(tiny()), topics(), tmp_path, steps=1, callbacks=[RDrop()])
    fitted(Classification(tiny(), dropout=0.1), topics(), tmp_path, steps=1, callbacks=[RDrop()])
    for kind, labels in ((Classification, "class"), (Regression, "score")):
        task, batch = task_of(kind, labels)
        plain = task.loss(batch)
        task.regularizers = [RDrop()]
        extended = task.loss(batch)
        torch.testing.assert_close(extended.mean(), plain.mean())
        assert extended.terms["r_drop"].total == 0


def test_r_drop_sees_dropout_that_is_no_layer_of_an_encoder_and_none_in_a_frozen_one(tmp_path):
    """ModernBERT drops attention weights by a function, with a rate that it has from its configuration."""
    small = {
        "vocab_size": 20,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    for rate in (0.0, 0.5):
        config = ModernBertConfig(**small, attention_dropout=rate, pad_token_id=0)
        model = ModernBertModel(config).train()
        one, other = (model(torch.arange(1, 13).view(2, 6)).last_hidden_state for _ in range(2))
        assert torch.equal(one, other) == (rate == 0)
        assert any(map(_drops, model.modules())) == (rate > 0)
    frozen = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1, freeze="all")
    with pytest.raises(UserError, match="nothing that is trained has a dropout rate above 0"):
        fitted(Classification(frozen), topics(), tmp_path, steps=1, callbacks=[RDrop()])


# ------------------------------------------------------------------------------------------------------------------ attacks


def attacked_loss(task, batch, change):
    """The loss with a change of the embeddings, by way of the encoder's argument."""
    states = task.encoder(batch, added=change)
    weights = batch.is_text.unsqueeze(-1).float()
    return (
        task.loss_of(task.head((states * weights).sum(1) / weights.sum(1)).float(), batch).terms["classification"].total
    )


def test_fgm_takes_one_step_of_length_eps_along_the_gradient():
    task, batch = task_of()
    task.regularizers = [Adversarial("fgm", eps=0.3, weight=0.5)]
    found = task.loss(batch).terms["adversarial_classification"]
    embeddings = task.encoder.embedding(batch.input_ids).detach() * batch.is_text.unsqueeze(-1)
    change = torch.zeros_like(embeddings, requires_grad=True)
    [gradient] = torch.autograd.grad(attacked_loss(task, batch, change), change)
    for row, direction, size in zip(change.data, gradient, embeddings, strict=True):
        row.copy_(0.3 * size.norm() * direction / direction.norm())
    torch.testing.assert_close(found.total, attacked_loss(task, batch, change.detach()))
    assert found.weight == 0.5 and found.targets == 8


def test_pgd_stays_within_the_ball_and_does_more_harm_than_a_step_and_than_none():
    task, batch = task_of()
    embeddings = task.encoder.embedding(batch.input_ids) * batch.is_text.unsqueeze(-1)
    losses = []
    for attack in (Adversarial("fgm", eps=0.5), Adversarial("pgd", eps=0.5, steps=8, step_size=0.4)):
        [change] = attack.worst_change(task, batch)
        share = change.flatten(1).norm(dim=1) / embeddings.flatten(1).norm(dim=1)
        assert share.max() < 0.5 + 1e-5
        losses.append(float(attacked_loss(task, batch, change)))
    assert losses[1] >= losses[0] > float(task.loss(batch).terms["classification"].total)


def test_gradients_too_small_for_float32_still_give_a_direction():
    """A loss near zero has them: its squares would vanish."""
    gradient = torch.tensor([[[3e-30, 4e-30]], [[0.0, 0.0]]])
    torch.testing.assert_close(_direction(gradient), torch.tensor([[[0.6, 0.8]], [[0.0, 0.0]]]))


def test_a_validation_reports_the_metric_under_attack(tmp_path):
    """Lightning validates in inference mode, where no gradient can be taken."""
    task, data = Classification(tiny(), optimization=Optimization(learning_rate=0.01)), topics()
    attack = Adversarial("pgd", eps=1.0, weight=0.0)
    trainer = fitted(task, data, tmp_path, steps=30, limit_val_batches=1.0, val_check_interval=10, callbacks=[attack])
    assert trainer.callback_metrics["val/accuracy"] == 1.0
    robust = float(trainer.callback_metrics["val/robust_accuracy"])
    assert robust < 1.0
    found = task.last_result.details["robust"]
    assert (found["attack"], found["eps"], found["metrics"]["accuracy"]) == ("pgd", 1.0, pytest.approx(robust))
    assert not task.regularizers
    [later] = trainer.validate(task, datamodule=data, verbose=False)
    assert later["val/robust_accuracy"] == pytest.approx(robust)
    [tested] = trainer.test(task, datamodule=data, verbose=False)  # both splits have the same texts
    assert tested["test/robust_accuracy"] == pytest.approx(robust)
    assert "robust" in task.last_result.details and not task.regularizers


def test_training_under_attack_makes_a_task_more_robust(tmp_path):
    scores = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        task = Classification(tiny(), optimization=Optimization(learning_rate=0.002))
        settings = {"limit_val_batches": 1.0, "val_check_interval": 15}
        trainer = fitted(
            task, topics(), tmp_path, steps=60, callbacks=[Adversarial(eps=1.5, weight=weight)], **settings
        )
        scores.append(float(trainer.callback_metrics["val/robust_accuracy"]))
    assert scores[0] < 0.8 < 0.9 < scores[1]


# ----------------------------------------------------------------------------------------------------------------- refusals


def test_settings_that_make_no_sense_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="attack 'x' is unknown: use fgm or pgd; eps must be above 0, not 0"):
        Adversarial("x", eps=0)
    with pytest.raises(UserError, match="RDrop: weight must be 0 or more"):
        RDrop(-1.0)
    method = CausalLM(tiny(), optimization=Optimization(learning_rate=0.01))
    with pytest.raises(UserError, match="RDrop belongs to a task, not to CausalLM"):
        Trainer(default_root_dir=tmp_path, max_steps=1, accelerator="cpu", callbacks=[RDrop()], **QUIET).fit(
            method, topics(None)
        )
    writer = SequenceToSequence(tiny(), "decoder_only")
    with pytest.raises(UserError, match="RDrop compares .* which SequenceToSequence does not predict: leave it out"):
        fitted(SequenceToSequence(tiny(0.1)), topics(None, pairs=True), tmp_path, steps=1, callbacks=[RDrop()])
    with pytest.raises(UserError, match="Adversarial cannot score .* set model.form to encoder_decoder"):
        fitted(writer, topics(None, pairs=True), tmp_path, callbacks=[Adversarial()])
    compiled = Classification(tiny(), compile=True)
    with pytest.raises(UserError, match="leave compile out"):
        fitted(compiled, topics(), tmp_path, callbacks=[Adversarial()])
