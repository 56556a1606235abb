"""The LightningModule behind methods and tasks: steps, sums over ranks, logging, optimization."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from ssl_nlp import lightning_internals as internals
from ssl_nlp.data import ContinualDataModule, TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.batch_maker import RowKind
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.names import snake_case
from ssl_nlp.seeding import run_seed, seed_generators
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.optimizers import Combined, build, follow, logged_rates
from ssl_nlp.training.parts import buffers_kept, say_how_it_starts, shard, train_all_but_frozen
from ssl_nlp.training.players import Player, acting_in, backward, losses
from ssl_nlp.training.ramp import Ramp
from ssl_nlp.training.ranks import sums_over_ranks
from ssl_nlp.training.saving import SavedModule
from ssl_nlp.training.sums import Loss, Sums
from ssl_nlp.training.window import Window

VALIDATION_SEED = 1_000_003


class Module(SavedModule):
    """An encoder with heads and a loss: what methods and tasks have in common.

    A subclass writes `loss` and, where it needs them, the other methods of the first section. It reads `self.training` to
    tell training from validation, and draws from torch's default generator, which is seeded before every batch from
    (seed, batch, rank).

    Args:
        encoder: turns tokens into hidden states. Left out where the module shares that of another one.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    short_name: ClassVar[str]  # in the names of runs and metrics; by default that of the class in snake case
    monitor: tuple[str, bool] = ("loss", False)  # the metric that decides on best.ckpt; whether higher is better
    causal: bool | None = False  # whether the encoder sees only what precedes a position; None: as it was made
    units: tuple[RowKind, ...] = ("block", "sentence")  # kinds of rows it can read
    loss_unit: str = "nats per token"  # of the logged loss, for plots of it

    optimization: Optimization
    training_sums: Sums
    _tokenizer: Tokenizer | None = None
    _data: TextDataModule | None = None
    acting: frozenset[str] | None = None  # the players whose turn it is; None: all
    pretended_step: int | None = None  # while operations are counted: the step that they are of

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "short_name" not in cls.__dict__:
            cls.short_name = snake_case(cls.__name__)

    def __init__(
        self, encoder: Encoder | None = None, optimization: Optimization | None = None, compile: bool = False
    ) -> None:
        super().__init__()
        self._lent: list[Encoder] = []  # that of another module, in a list: its parameters belong to the other one
        if encoder is not None:
            self.add_module("encoder", encoder)
        self.optimization = optimization or Optimization()
        self.compile_encoder = compile
        self.training_sums = Sums()
        self.validation_sums = Sums()
        self._measured: set[str] = set()  # names of what was logged last
        self._window = Window()

    # ---------------------------------------------------------------------------------------- what a subclass may write

    def build(self) -> None:
        """Create the heads. The encoder, `self.tokenizer` and `self.vocab_size` are known here."""

    def visible(self, batch: TokenBatch) -> TokenBatch:
        """The part of a batch that the loss may read: all but the labels, which only tasks see."""
        return batch.without_labels()

    def loss(self, batch: TokenBatch) -> Loss:
        """The loss of what is visible of a batch. It changes nothing: `after_step` keeps what later steps need."""
        raise NotImplementedError

    def validation_loss(self, batch: TokenBatch) -> Loss:
        """The loss of what is visible of a batch in a validation or test. A task keeps its predictions for `summarize`."""
        return self.loss(batch)

    def count_targets(self, batch: TokenBatch) -> Mapping[str, Tensor]:
        """The number of targets of each term of `loss(batch)` in training; needed where batches are accumulated.

        The default computes the loss. A subclass that can count without a forward pass overrides this, with the same
        random draws as its `loss`.
        """
        with torch.no_grad(), buffers_kept(self):
            return self.loss(batch).targets

    def players(self) -> dict[str, Player]:
        """The players, and the parameters of each. There are several where terms oppose each other (adversarial training).

        Each player minimises the terms that `Player.terms` names, with its own optimization, and changes only its own
        parameters. The terms of the first player make up the `loss` that is logged.
        """
        return {"": Player(self, self.optimization)}

    def acts(self, player: str) -> bool:
        """Whether a player acts now (`Player.every`), so that `loss` needs its terms. Outside of a training all do."""
        return self.acting is None or player in self.acting

    def after_step(self) -> None:
        """Called after each step of the optimizer, for what follows the weights, such as a moving average of them."""

    def take_facts(self, data: TextDataModule, stage: str) -> None:
        """Take what `build` needs to know of the data besides the tokenizer, such as the classes of a task."""
        self._data = data

    def take_counts(self, data: TextDataModule) -> None:
        """Take what has been counted in the train split, before a training. The parameters exist, and the data fit."""

    def check_data(self, data: TextDataModule) -> None:
        """Check before a training that the data fit the settings. The encoder and the trainer are known.

        Raises:
            UserError: training on these data would fail, or be pointless.
        """
        if data.length > self.encoder.max_length:
            raise UserError(
                f"data.length {data.length} is longer than the encoder's max_length {self.encoder.max_length}: "
                "lower data.length, or raise max_length"
            )
        if data.unit not in self.units:
            raise UserError(
                f"{type(self).__name__} reads {' or '.join(self.units)} rows, not {data.unit} ones: "
                f"set data.unit to {' or '.join(self.units)}"
            )

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        """The metrics of a validation or test, from the means of all terms (`loss/NAME`) and metrics over the split.

        Args:
            means: scalars, which are reported, and vectors, which are not.
            statistics: sizes of the split; None where they are not known.
        """
        return means

    # ------------------------------------------------------------------------------------------ encoder, tokenizer, data

    @property
    def encoder(self) -> Encoder:
        """The encoder, a part of this module unless another one lends it (`borrow`)."""
        if self._lent:
            return self._lent[0]
        if (encoder := self._modules.get("encoder")) is None:
            raise AttributeError("encoder")
        return encoder  # type: ignore[return-value]  # nothing else has this name

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that this module was connected to."""
        if self._tokenizer is None:
            raise UserError(f"{type(self).__name__} has no tokenizer yet: fit it, load a checkpoint, or call connect()")
        return self._tokenizer

    @property
    def tokenizer_wanted(self) -> Tokenizer | str | None:
        """The tokenizer that the data must use: its own, that of its encoder or the name of it, or None for any."""
        if self._tokenizer is not None or not hasattr(self, "encoder"):
            return self._tokenizer
        return self.encoder.tokenizer or self.encoder.tokenizer_name

    @property
    def vocab_size(self) -> int:
        """Rows of the token embedding."""
        return self.tokenizer.vocab_size

    def connect(self, tokenizer: Tokenizer) -> None:
        """Create every parameter that depends on the vocabulary. Done once: by `fit` or by loading a checkpoint."""
        if self._tokenizer is not None:
            if self._tokenizer.fingerprint() != tokenizer.fingerprint():
                raise UserError("this model was trained with another tokenizer than the data's: use the same for both")
            return
        if not hasattr(self, "encoder"):
            raise UserError(f"{type(self).__name__} has no encoder: give it one, such as Transformer('small')")
        self.encoder.build(tokenizer.vocab_size, tokenizer.pad_id, self.causal, tokenizer)
        self.prepare(tokenizer)

    def borrow(self, encoder: Encoder) -> None:
        """Use the encoder of another module, to which its parameters and their checkpoints belong."""
        self._lent = [encoder]

    def prepare(self, tokenizer: Tokenizer) -> None:
        """The part of `connect` that comes after the encoder has been built."""
        self._tokenizer = tokenizer
        self.build()

    def connect_data(self, data: TextDataModule, stage: str) -> None:
        """Take the tokenizer of the data, and check the data before a training. The `setup` of the data module calls it.

        That is before the `setup` of any callback: weight averaging and pruning, for instance, need the parameters there.
        """
        self.take_facts(data, stage)
        with torch.random.fork_rng():
            torch.manual_seed(run_seed())  # the same weights on every rank, in whatever order things are created
            self.connect(data.tokenizer)
        if stage == "fit":
            self.check_saving()
            self.check_data(data)
            self.take_counts(data)

    def setup(self, stage: str) -> None:
        """Lightning's hook, after those of the data module and the callbacks."""
        if self._tokenizer is None:
            raise UserError("fit a method on a ssl_nlp.data.TextDataModule, or call connect(tokenizer) before")

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_data": None}  # a copy does not belong to the trainer

    # ---------------------------------------------------------------------------------------------------------- training

    @property
    def trained(self) -> bool:
        """Whether a trainer is running the model."""
        return internals.has_trainer(self)

    @property
    def step(self) -> int:
        """Steps that the optimizer has done; 0 outside of a trainer."""
        if self.pretended_step is not None:
            return self.pretended_step
        return self.trainer.global_step if self.trained else 0

    @property
    def total_steps(self) -> float:
        """Steps of the whole training; infinite if that is not known, or outside of a trainer."""
        return self.trainer.estimated_stepping_batches if self.trained else float("inf")

    def ramps(self) -> dict[str, Ramp]:
        """The settings that change over the steps, by name, with those of the modules in this one."""
        parts = [part for part in self.modules() if isinstance(part, Module)]
        settings = [setting for part in parts for setting in vars(part).items()]
        return {name: ramp for name, ramp in settings if isinstance(ramp, Ramp) and ramp.start != ramp.end}

    @property
    def sharded(self) -> bool:
        """Whether the parameters are divided among processes, so that only all of them together can run the model."""
        return self.device_mesh is not None

    def configure_model(self) -> None:
        """Lightning's hook, after `setup`: divide the parameters among processes where the strategy asks for it (FSDP2)."""
        if not self.sharded or isinstance(self, FSDPModule):
            return
        if len(self.players()) > 1:
            raise UserError(f"{type(self).__name__} has several players, whose parameters cannot be sharded: use ddp")
        shard(self, self.encoder, self.device_mesh["data_parallel"])  # type: ignore[index]  # it has a mesh

    def configure_optimizers(self) -> Any:
        steps = self.trainer.estimated_stepping_batches
        for name, ramp in self.ramps().items():
            ramp.check(name, steps)
        internals.discard_train_loader(self.trainer)
        restarts = self._data.restarts if isinstance(self._data, ContinualDataModule) else []
        optimizer, schedule = build(self.players(), self.encoder, steps, restarts)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        self._window = Window()
        train_all_but_frozen(self)
        if self.global_rank == 0:
            say_how_it_starts(self.encoder, self.optimization)
        if self.compile_encoder:
            self.encoder.compile(dynamic=None)

    def on_train_start(self) -> None:
        for configured in self.trainer.lr_scheduler_configs:
            follow(configured.scheduler)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        number = internals.batches_done(self.trainer)
        players = self.players()
        self.acting = acting_in(self.step, players)
        accumulated = self.trainer.accumulate_grad_batches
        if accumulated > 1 and self._window.left == 0:
            self._window.open(self, self._data, batch_idx, number)
        seed_generators(self.device, run_seed(), number, self.global_rank)
        loss = self.loss(self.visible(batch))
        self.training_sums.add(loss, next(iter(players.values())).terms)
        targets = self._window.take() if accumulated > 1 else sums_over_ranks(loss.targets)
        # Lightning averages over ranks and accumulated batches; this loss is the mean over the targets of all of them.
        minimised = losses(loss, targets, players, self.acting) * (self.trainer.world_size * accumulated)
        penalty = self.encoder.penalty()
        return minimised if penalty is None else minimised + penalty

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Lightning's hook: the loss of each player that acts changes its own parameters only."""
        if len(players := self.players()) == 1:
            super().backward(loss, *args, **kwargs)
        else:
            backward(loss, players, self.acting or (), self.trainer.world_size > 1)

    def configure_gradient_clipping(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        """Lightning's hook: the gradients of each player are clipped by themselves."""
        for part in optimizer.parts if isinstance(optimizer, Combined) and len(self.players()) > 1 else [optimizer]:
            self.clip_gradients(part, *args, **kwargs)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.encoder.after_step(self.step, self.total_steps)
        self.after_step()

    def on_train_batch_end(self, outputs: Any, batch: TokenBatch, batch_idx: int) -> None:
        self.acting = None
        self.log_training()

    # --------------------------------------------------------------------------------------------- logging and validation

    def log_training(self) -> None:
        """Log the means since the last logging, if logging is due; a second call does nothing."""
        if not internals.logs_now(self.trainer):
            return
        means = self.training_sums.means_over_ranks()
        if not means:
            return
        for name in self._measured - means.keys():
            internals.forget_logged(self.trainer, f"train/{name}")
        self._measured = {name for name, mean in means.items() if mean.ndim == 0}
        self._log_means("train", means)
        for name, rate in logged_rates(self.trainer.optimizers[0]).items():
            self.log(f"train/learning_rate/{name}", rate)

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        seed_generators(self.device, VALIDATION_SEED, batch_idx, self.global_rank)
        self.validation_sums.add(self.validation_loss(self.visible(batch)), next(iter(self.players().values())).terms)

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        self.validation_sums = Sums()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val", "valid")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test", "test")

    def _log_evaluation(self, prefix: str, split: Literal["valid", "test"]) -> None:
        statistics = None if self._data is None else self._data.statistics(split)
        means = self.validation_sums.means_over_ranks(None if self.trainer.sanity_checking else split)
        self._log_means(prefix, self.summarize(means, statistics))

    def _log_means(self, prefix: str, means: dict[str, Tensor]) -> None:
        """Log scalars. A single term equals the loss and is not logged twice."""
        terms = [name for name in means if name.startswith("loss/")]
        for name, mean in means.items():
            if mean.ndim == 0 and [name] != terms:
                self.log(f"{prefix}/{name}", mean.float(), prog_bar=name == "loss")
