"""Several players in one method: each minimises its own terms and changes its own parameters only."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from ssl_nlp.data import TextDataModule, TokenBatch, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Loss, Method, Optimization, Player, Term
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(24, longest=12), random_texts(4, seed=1))
SGD = {
    "optimizer": "torch.optim.SGD",
    "optimizer_args": {"momentum": 0.9},
    "schedule": "constant",
    "warmup": 0,
    "weight_decay": 0.0,
}


class Adversarial(Method):
    """An encoder whose embeddings do not give away how long a text is, and a critic who guesses that from them."""

    def __init__(self, encoder: Transformer, optimization: Optimization, critic: Optimization, every: int = 1) -> None:
        super().__init__(encoder, optimization)
        self.critic_optimization, self.every = critic, every

    def build(self) -> None:
        self.critic = nn.Linear(self.encoder.dim, 1)

    def players(self) -> dict[str, Player]:
        return {
            "encoder": Player(self.encoder, self.optimization, ("hidden",)),
            "critic": Player(self.critic, self.critic_optimization, ("guessed",), self.every),
        }

    def loss(self, batch: TokenBatch) -> Loss:
        guesses = self.critic(self.embed_batch(batch)).squeeze(1)
        length = batch.is_text.sum(dim=1).float() / 10
        rows = torch.tensor(len(batch))
        errors = F.mse_loss(guesses, length, reduction="sum")
        terms = {"hidden": Term(-errors, rows, 0.1)}
        return Loss(terms | ({"guessed": Term(errors, rows)} if self.acts("critic") else {}))


def data() -> TextDataModule:
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=300), "sentence", length=40, batch_size=4, seed=0)


def method(every: int = 1, **critic: object) -> Adversarial:
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
    rates = {"learning_rate": 0.1, **SGD, **critic}
    return Adversarial(encoder, Optimization(learning_rate=0.01, **SGD), Optimization(**rates), every)  # type: ignore[arg-type]


def trainer(**arguments: object) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "limit_val_batches": 0}
    return Trainer(accelerator="cpu", **quiet | arguments)  # type: ignore[arg-type]


def by_hand(
    model: Adversarial, module: TextDataModule, steps: int, accumulated: int, clip: float | None
) -> dict[str, Tensor]:
    """Two optimizers of torch, each with the gradient of its own loss."""
    model.connect(module.tokenizer)
    parts = [(model.encoder, "hidden", 0.1, 0.01, 1), (model.critic, "guessed", 1.0, 0.1, model.every)]
    optimizers = [torch.optim.SGD(part.parameters(), rate, momentum=0.9) for part, _, _, rate, _ in parts]
    batches = iter(module.train_dataloader())
    for step in range(1, steps + 1):
        losses = [model.loss(next(batches)) for _ in range(accumulated)]
        gradients = []
        for part, name, weight, _, _ in parts:
            total = sum(loss.terms[name].total for loss in losses)
            targets = sum(loss.terms[name].targets for loss in losses)
            loss = total * weight / targets
            found = torch.autograd.grad(loss, [*part.parameters()], retain_graph=True, materialize_grads=True)
            gradients.append(found)
        for (part, *_, every), optimizer, found in zip(parts, optimizers, gradients, strict=True):
            if step % every:
                continue
            for parameter, gradient in zip(part.parameters(), found, strict=True):
                parameter.grad = gradient
            if clip is not None:
                assert torch.nn.utils.clip_grad_norm_(part.parameters(), clip) > clip
            optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize(
    ("steps", "accumulated", "every", "clip"), [(3, 1, 1, None), (3, 2, 1, None), (5, 1, 2, 0.1), (3, 2, 2, 0.1)]
)
def test_each_player_steps_as_with_an_optimizer_of_its_own(steps, accumulated, every, clip):
    """At every step or at some, as often as it is its turn, with its own gradient clipped by itself."""
    torch.manual_seed(0)
    model, module = method(every), data()
    model.connect(module.tokenizer)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    settings = {"accumulate_grad_batches": accumulated, "gradient_clip_val": clip, "enable_checkpointing": False}
    trainer(max_steps=steps, **settings).fit(model, module)
    twin = method(every)
    twin.connect(module.tokenizer)
    twin.load_state_dict(start)
    expected = by_hand(twin.train(), data_with(module), steps, accumulated, clip)
    for name, value in model.state_dict().items():
        if name != "token_counts":
            assert torch.allclose(value, expected[name], atol=1e-6), name
            changed = not value.is_floating_point() or not torch.equal(value, start[name])
            assert changed or (clip is not None and "norm" in name), name  # what is clipped may be too little for a 1


def data_with(module: TextDataModule) -> TextDataModule:
    """The same data without a trainer, whose loader begins at the first batch."""
    fresh = data()
    fresh.continue_with(module.tokenizer, {})
    return fresh


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    """Each has an optimizer with a state and a schedule of its own, and the critic acts in some steps only."""

    def fit(checkpoint: str | None = None) -> Adversarial:
        torch.manual_seed(0)
        model = method(2, optimizer="muon", optimizer_args=None, schedule="cosine")
        model.optimization = Optimization(learning_rate=1e-2, warmup=2)
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=3)
        run = trainer(max_steps=6, default_root_dir=tmp_path, callbacks=[] if checkpoint else [keep])
        run.fit(model, data(), ckpt_path=checkpoint, weights_only=True)
        return model

    whole, resumed = fit().state_dict(), fit(str(tmp_path / "step=3.ckpt")).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_parameter_has_one_player():
    class Shared(Adversarial):
        def players(self) -> dict[str, Player]:
            return {"all": Player(self, self.optimization), **super().players()}

    model = Shared(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64), Optimization(), Optimization())
    with pytest.raises(UserError, match="a parameter belongs to two of the players all, encoder, critic"):
        trainer(max_steps=1, enable_checkpointing=False).fit(model, data())


def test_the_logged_loss_is_that_of_the_first_player():
    model, run = method(2), trainer(max_steps=2, log_every_n_steps=1, enable_checkpointing=False)
    run.fit(model, data())
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert logged["train/loss"] == pytest.approx(0.1 * logged["train/loss/hidden"])
    assert logged["train/loss/guessed"] > 0 and model.acts("critic")


def test_somebody_acts_in_every_step():
    with pytest.raises(UserError, match="every of a player must be 1 or more, not 0"):
        Player(nn.Linear(1, 1), Optimization(), every=0)

    class Idle(Adversarial):
        def players(self) -> dict[str, Player]:
            return {name: replace(player, every=2) for name, player in super().players().items()}

    model = Idle(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64), Optimization(), Optimization())
    with pytest.raises(UserError, match="one of encoder, critic must act in every step"):
        trainer(max_steps=1, enable_checkpointing=False).fit(model, data())


@pytest.mark.slow
def test_two_processes_equal_one_that_has_all():
    """Also where batches are accumulated: targets are counted over the window of both."""

    def fit(devices: int, batch_size: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model, module = method(2), data()  # the critic rests in the first step and the third
        module.batch_size = batch_size
        model.connect(module.tokenizer)
        strategy = "ddp_spawn" if devices > 1 else "auto"
        arguments = {"max_steps": 3, "accumulate_grad_batches": 2, "enable_checkpointing": False}
        trainer(devices=devices, strategy=strategy, **arguments).fit(model, module)
        return model.state_dict()

    one, two = fit(1, 8), fit(2, 4)
    assert all(torch.allclose(value, two[name], atol=1e-6) for name, value in one.items())
