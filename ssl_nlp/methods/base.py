"""What all methods share: one batch in, a sum of losses out; everything around it is done here."""

import inspect
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import DoublePrecision
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.batch_maker import RowKind
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.objectives.views import View, Vocabulary, apply_views
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.seeding import run_seed, seed_generators
from ssl_nlp.training.optimization import Optimization, build_optimizer, learning_rate_factor, unusual_for_pretrained
from ssl_nlp.training.ranks import sum_over_ranks
from ssl_nlp.training.sums import Loss, Sums

VALIDATION_SEED = 1_000_003

Pooling = Literal["mean", "first", "last"]
Likelihood = Literal["likelihood", "pseudo-likelihood", "bound"]


class TextsCut(UserWarning):
    """Texts were longer than what the encoder reads, and their ends are left out."""


def listed(texts: Iterable[str], batch_size: int = 1) -> list[str]:
    """Texts as a list.

    Raises:
        UserError: they are a single text, whose letters would be taken for texts, or not all are texts; or the batch size
            is below 1.
    """
    if isinstance(texts, str):
        raise UserError(f"{texts[:40]!r} is a single text: give a list of texts, such as [text]")
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more, not {batch_size}")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"text {number} is of type {type(text).__name__}: give a list of texts")
    return texts


class Method(LightningModule):
    """A self-supervised objective over an encoder.

    A subclass says whether its encoder must be causal, which units of text it reads and how its embedding is pooled,
    creates its heads in `build`, and computes a `Loss` from a `TokenBatch` in `loss`. It reads `self.training` to tell
    training from validation, and draws from torch's default generator: the base class seeds that before every batch from
    (seed, batch, rank).

    Args:
        encoder: what turns tokens into hidden states. Left out where the method is one of several in a `MultiObjective`.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    short_name: ClassVar[str]  # in the names of runs and metrics; by default that of the class in snake case
    causal: ClassVar[bool] = False
    pooling: Pooling = "mean"
    all_units: ClassVar[tuple[RowKind, ...]] = get_args(RowKind)
    units: tuple[RowKind, ...] = ("block", "sentence")
    unsaved: ClassVar[tuple[str, ...]] = ("encoder",)  # arguments that a checkpoint does not keep as they are
    loss_unit: str = "nats per token"  # of the logged loss, for plots of it
    against_collapse: ClassVar[str] = "a lower learning rate"  # what helps when embeddings have collapsed
    language_term: ClassVar[str | None] = None  # the term of the loss whose exponential is a perplexity
    likelihood: ClassVar[Likelihood | None] = None  # what the method can say of the probability of a text, if anything

    encoder: Encoder
    maskable: Tensor
    token_counts: Tensor
    _tokenizer: Tokenizer | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "short_name" not in cls.__dict__:
            cls.short_name = snake_case(cls.__name__)

    def __init__(
        self, encoder: Encoder | None = None, optimization: Optimization | None = None, compile: bool = False
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=self.unsaved, logger=False)
        if encoder is not None:
            self.encoder = encoder
        self.optimization = optimization or Optimization()
        self.compile_encoder = compile
        self._kind = type(self)  # sharding changes the class of an instance
        self._given = arguments_of(self)
        self.training_sums = Sums()
        self.validation_sums = Sums()
        self._measured: set[str] = set()  # names of what was logged last
        self._gradient_targets: list[list[Tensor]] = []

    # ------------------------------------------------------------------------------------------ what a method writes

    def build(self) -> None:
        """Create the heads. The encoder, `self.tokenizer` and `self.vocab_size` are known here."""

    def loss(self, batch: TokenBatch) -> Loss:
        """The loss of one batch. It changes nothing: what is to be kept for later steps is kept by `after_step`."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each step of the optimizer, for what follows the weights, such as a moving average of them."""

    def embed_batch(self, batch: TokenBatch) -> Tensor:
        """(B, E): the embeddings of B texts, one a row."""
        return pool(self.encoder(batch), batch, self.pooling)

    @property
    def embedding_dim(self) -> int:
        """Width E of the embeddings."""
        return self.encoder.dim

    def collapse(self, embeddings: Tensor) -> str | None:
        """What shows that embeddings (N, E) of different texts have collapsed, beside their directions; None if nothing."""
        return None

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        """Targets of `language_term` per UTF-8 byte of text, for bits per byte."""
        raise NotImplementedError

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        """What an evaluation reports, from the means of all terms (`loss/NAME`) and metrics over a split.

        Args:
            means: scalars, which are reported, and vectors, which are not.
            statistics: sizes of the split; None where they are not known.
        """
        if self.language_term is None:
            return means
        nats = means[f"loss/{self.language_term}"]
        means = means | {"perplexity": nats.exp()}
        if statistics is not None:
            means["bits_per_byte"] = nats * (self.targets_per_byte(statistics) / math.log(2))
        return means

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        """What the method makes of a few texts, for people to read: a row each, as text by column name."""
        return []

    # ------------------------------------------------------------------------------------------------- the handshake

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that this method was connected to."""
        if self._tokenizer is None:
            raise UserError(f"{type(self).__name__} has no tokenizer yet: fit it, load a checkpoint, or call connect()")
        return self._tokenizer

    @property
    def tokenizer_name(self) -> str | None:
        """The pretrained tokenizer that the encoder brings, which the data must use; None if it takes any."""
        return self.encoder.tokenizer_name

    @property
    def vocab_size(self) -> int:
        """Rows of the token embedding."""
        return self.tokenizer.vocab_size

    @property
    def vocabulary(self) -> Vocabulary:
        """What corruptions of a batch need to know about tokens."""
        return Vocabulary(self.tokenizer.pad_id, self.tokenizer.mask_id, self.maskable, self.token_counts)

    def connect(self, tokenizer: Tokenizer) -> None:
        """Create every parameter that depends on the vocabulary. Done once: by `fit` or by loading a checkpoint."""
        if self._tokenizer is not None:
            if self._tokenizer.fingerprint() != tokenizer.fingerprint():
                raise UserError("this method was trained with another tokenizer than the data's: use the same for both")
            return
        if not hasattr(self, "encoder"):
            raise UserError(f"{type(self).__name__} has no encoder: give it one, such as Transformer('small')")
        self.encoder.build(tokenizer.vocab_size, tokenizer.pad_id, self.causal, tokenizer.fingerprint())
        self.prepare(tokenizer)

    def share(self, encoder: Encoder) -> None:
        """Use the encoder of another method, to which its parameters and their checkpoints then belong."""
        object.__setattr__(self, "encoder", encoder)  # past torch, which would register it as a part of this module

    def prepare(self, tokenizer: Tokenizer) -> None:
        """The part of `connect` that comes after the encoder has been built."""
        self._tokenizer = tokenizer
        self.register_buffer("token_counts", torch.zeros(tokenizer.vocab_size, dtype=torch.int64))
        maskable = torch.ones(tokenizer.vocab_size, dtype=torch.bool)
        maskable[tokenizer.special_ids] = False
        self.register_buffer("maskable", maskable, persistent=False)
        self.build()

    def check_data(self, data: TextDataModule) -> None:
        """Refuse data that do not go with the settings, before training begins. The encoder and the trainer are known.

        Raises:
            UserError: `fit` could not train on these data, or not well.
        """
        if data.length > self.encoder.max_length:
            raise UserError(
                f"data.length {data.length} is longer than the encoder's max_length {self.encoder.max_length}: "
                "shorten the one or raise the other"
            )
        if data.unit not in self.units:
            raise UserError(
                f"{type(self).__name__} reads {' or '.join(self.units)} rows, not {data.unit} ones: "
                f"set data.unit to {self.units[0]}"
            )

    def check_views(self, views: Sequence[View], length: int) -> None:
        """Try views on a row of `length` tokens.

        Raises:
            UserError: they need a tokenizer with a mask token, or make a text too long for the encoder.
        """
        ids = torch.zeros(1, length, dtype=torch.int64, device=self.maskable.device)
        with torch.random.fork_rng():
            seen = apply_views(views, TokenBatch(ids, torch.ones_like(ids), packed=False), self.vocabulary)
        if (width := seen.input_ids.shape[1]) > self.encoder.max_length:
            raise UserError(
                f"the views make {width} tokens of data.length {length}, and the encoder's max_length is "
                f"{self.encoder.max_length}: shorten the one or raise the other"
            )

    def setup(self, stage: str) -> None:
        """Lightning's hook, after those of the data module and the callbacks."""
        if self._tokenizer is None:
            raise UserError("fit a method on a ssl_nlp.data.TextDataModule, or call connect(tokenizer) before")

    def connect_data(self, data: TextDataModule, stage: str) -> None:
        """Connect to the data module's tokenizer. Called by its `setup`, which comes before that of any callback.

        Some callbacks look for the parameters in their own `setup`: weight averaging copies them, pruning lists them.
        """
        with torch.random.fork_rng():
            torch.manual_seed(run_seed())  # the same initial weights on every rank and for every order of construction
            self.connect(data.tokenizer)
        if stage == "fit":
            self.check_data(data)
            counts = torch.from_numpy(data.token_counts())
            for module in self.modules():
                if isinstance(module, Method):
                    module.token_counts.copy_(counts)

    @property
    def step(self) -> int:
        """Steps that the optimizer has done; 0 outside of a trainer."""
        return 0 if self._trainer is None else self.trainer.global_step

    @property
    def sharded(self) -> bool:
        """Whether the parameters are divided among processes, so that only all of them together can run the method."""
        return self.device_mesh is not None

    def configure_model(self) -> None:
        """Lightning's hook, after `setup`: divide the parameters among processes where the strategy asks for it (FSDP2)."""
        if not self.sharded or isinstance(self, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]  # type: ignore[index]  # there is one where it is sharded
        for layer in longest_stack(self.encoder):
            fully_shard(layer, mesh=mesh)
        fully_shard(self, mesh=mesh)
        register_fsdp_forward_method(self, "loss")  # Lightning calls training_step, never forward

    # ------------------------------------------------------------------------------------------ training, validation

    def on_fit_start(self) -> None:
        train_all_but_frozen(self)
        self._warn_of_learning_rate()
        if self.compile_encoder:
            self.encoder.compile(dynamic=None)

    def _warn_of_learning_rate(self) -> None:
        trained = self.encoder.pretrained and any(p.requires_grad for p in self.encoder.parameters())
        if trained and self.global_rank == 0 and (setting := unusual_for_pretrained(self.optimization)):
            print(
                f"warning: optimization.{setting} is unusual for pretrained weights, and may undo in a few steps what they "
                "know: AdamW with a learning_rate of 2e-5 to 5e-5 is usual (encoder/bert-base-uncased.yaml)",
                file=sys.stderr,
                flush=True,
            )

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        seed_generators(self.device, run_seed(), batches, self.global_rank)
        loss = self.loss(batch)
        self.training_sums.add(loss)
        return self._over_all_targets(loss)

    def _over_all_targets(self, loss: Loss) -> Tensor:
        """The loss whose gradient, once averaged over ranks and accumulated batches, is that of the mean over targets.

        Every batch is divided by the targets of the first batch of its accumulation window (over all ranks), so that
        magnitudes stay sane in half precision; `on_before_optimizer_step` corrects for what the others had. One factor
        corrects all terms: where their targets are not in proportion, it is exact for the first one.
        """
        targets = [*sum_over_ranks(torch.stack([term.targets.long() for term in loss.terms.values()]))]
        if self.trainer.accumulate_grad_batches > 1:
            self._gradient_targets.append(targets)
            targets = self._gradient_targets[0]
        return loss.over(targets) * self.trainer.world_size

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._gradient_targets:
            return
        window, self._gradient_targets = [float(targets[0]) for targets in self._gradient_targets], []
        factor = self.trainer.accumulate_grad_batches * max(window[0], 1) / max(sum(window), 1)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.after_step()

    def on_train_batch_end(self, outputs: Any, batch: TokenBatch, batch_idx: int) -> None:
        self.log_training()

    def log_training(self) -> None:
        """Log what the batches since the last logging gave, where it is time to; a second call does nothing."""
        if not self.trainer._logger_connector.should_update_logs and not self.trainer.is_last_batch:
            return
        means = self.training_sums.means_over_ranks()
        if not means:
            return
        for name in self._measured - means.keys():  # Lightning would log the last value again and again
            if stale := self.trainer.fit_loop.epoch_loop._results.get(f"on_train_batch_end.train/{name}"):
                stale.reset()
        self._measured = {name for name, mean in means.items() if mean.ndim == 0}
        self._log_means("train", means)
        for group in self.trainer.optimizers[0].param_groups:
            self.log(f"train/learning_rate/{group['name']}", group["lr"])

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx)

    def test_step(self, batch: TokenBatch, batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx)

    def _evaluation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        seed_generators(self.device, VALIDATION_SEED, batch_idx, self.global_rank)
        loss = self.loss(batch)
        self.validation_sums.add(loss)

    def on_validation_epoch_start(self) -> None:
        self.validation_sums = Sums()

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val", "valid")

    def on_test_epoch_start(self) -> None:
        self.validation_sums = Sums()

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test", "test")

    def _log_evaluation(self, prefix: str, split: Literal["valid", "test"]) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        statistics = data.statistics(split) if isinstance(data, TextDataModule) else None
        self._log_means(prefix, self.summarize(self.validation_sums.means_over_ranks(), statistics))

    def _log_means(self, prefix: str, means: dict[str, Tensor]) -> None:
        """Log scalars; a single term is the loss itself and not logged twice."""
        terms = [name for name in means if name.startswith("loss/")]
        for name, mean in means.items():
            if mean.ndim == 0 and [name] != terms:
                self.log(f"{prefix}/{name}", mean.float(), prog_bar=name == "loss")

    def predict_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        return self.embed_batch(batch)

    def configure_optimizers(self) -> Any:
        steps = self.trainer.estimated_stepping_batches
        loop = self.trainer.fit_loop
        if loop._combined_loader is not None:
            # Made to count its batches, before Lightning has restored where the training stands: it is to be made again.
            assert loop._data_fetcher is not None
            loop._data_fetcher.teardown()
            loop._combined_loader = None
        optimizer = build_optimizer(self, self.optimization)
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, self.optimization))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---------------------------------------------------------------------------------------------------- embeddings

    @torch.no_grad()
    def embed(self, texts: Iterable[str], batch_size: int = 64) -> Tensor:
        """Frozen embeddings of texts, (N, D) float32 on the CPU, in evaluation mode; the mode is restored after.

        Texts longer than the encoder's `max_length` are cut, of which a `TextsCut` warns.

        Raises:
            UserError: a single text instead of a list of them, or a batch size below 1.
        """
        ids = [ids for ids, _ in self.tokenizer.encode(listed(texts, batch_size))]
        if cut := sum(len(row) > self.encoder.max_length for row in ids):
            longest = self.encoder.max_length
            said = f"{cut:,} of {len(ids):,} texts are longer than the encoder's {longest} tokens and are cut"
            warnings.warn(said, TextsCut, stacklevel=3)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        training = self.training
        self.eval()
        embeddings = torch.empty(len(ids), self.embedding_dim)
        for start in range(0, len(ids), batch_size):
            rows = order[start : start + batch_size]
            batch = pad_rows([ids[i] for i in rows], None, self.tokenizer, self.encoder.max_length)
            embeddings[rows] = self.embed_batch(batch.to(self.device)).float().cpu()
        self.train(training)
        return embeddings

    @torch.no_grad()
    def validate_texts(self, texts: Iterable[str], batch_size: int = 64) -> dict[str, float]:
        """What a validation reports of texts, one a row, without a trainer; mode and random state are restored after."""
        texts = listed(texts, batch_size)
        rows = sorted(self.tokenizer.encode(texts), key=lambda row: len(row[0]))
        frame = len(self.tokenizer.prefix) + len(self.tokenizer.suffix)
        tokens = sum(len(ids) - frame for ids, _ in rows)
        statistics = TextStatistics(len(rows), tokens, sum(len(text.encode()) for text in texts))
        sums, training = Sums(), self.training
        self.eval()
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for number, start in enumerate(range(0, len(rows), batch_size)):
                seed_generators(self.device, VALIDATION_SEED, number, 0)
                ids, words = zip(*rows[start : start + batch_size], strict=True)
                batch = pad_rows(ids, words, self.tokenizer, self.encoder.max_length).to(self.device)
                sums.add(self.loss(replace(batch, causal=self.causal)))
        self.train(training)
        summary = self.summarize(sums.means_over_ranks(), statistics)
        return {name: float(value) for name, value in summary.items() if value.ndim == 0}

    # --------------------------------------------------------------------------------------------------- checkpoints

    def finite(self) -> bool:
        """Whether all weights are, of those that this process holds."""
        held = [p.to_local() if isinstance(p, DTensor) else p for p in self.parameters()]
        return bool(torch.stack([p.isfinite().all() for p in held]).all())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint self-contained: class, hyperparameters and tokenizer, as plain data."""
        checkpoint["hyper_parameters"] = {}
        checkpoint["ssl_nlp"] = {
            "method": checkpoints.describe(self._kind, self.init_args()),
            "tokenizer": self.tokenizer.serialize(),
        }
        checkpoint["training_sums"] = self.training_sums.state_over_ranks()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what was not logged yet; the first rank stands for all that there were.

        Raises:
            UserError: the checkpoint has another tokenizer than the data, or weights of other sizes.
        """
        if Tokenizer(checkpoint["ssl_nlp"]["tokenizer"]).fingerprint() != self.tokenizer.fingerprint():
            raise UserError(
                "the checkpoint was trained with another tokenizer than the data's: begin with "
                "Method.load_from_checkpoint(path), whose tokenizer the data then use"
            )
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.double()  # Lightning does this after it has loaded the weights, which would be rounded
        saved, own = checkpoint.get("state_dict", {}), self.state_dict()
        for name in [*own, *saved] if saved else []:
            sizes = [tuple(weights[name].shape) if name in weights else "none" for weights in (saved, own)]
            if sizes[0] != sizes[1]:
                raise UserError(
                    f"the checkpoint does not fit the model: {name} is {sizes[0]} in the one and {sizes[1]} in the other. "
                    "Give the model the settings that it was trained with"
                )
        if self.global_rank == 0:
            self.training_sums.load_state(checkpoint.get("training_sums", {}))

    def was_given(self, name: str) -> bool:
        """Whether an argument of this name was given to the constructor, rather than by it to those it builds on."""
        return self._given is None or name in self._given

    def init_args(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        arguments = {name: value for name, value in self.hparams.items() if self.was_given(name)}
        if self.was_given("encoder"):
            arguments["encoder"] = checkpoints.describe(type(self.encoder), self.encoder.hparams())
        return arguments

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # nothing but the file is needed, so nothing else is asked for
        cls, checkpoint_path: str | os.PathLike[str], map_location: str | torch.device = "cpu", **overrides: Any
    ) -> Self:
        """The method in a checkpoint, ready to `embed`, whichever way it was trained.

        The file may come from anybody: nothing in it can run code (`ssl_nlp.runs.checkpoint`).

        Raises:
            UserError: the file is missing, broken, or not a checkpoint of ours, or it needs a class that is not loaded.
        """
        saved = checkpoints.read(checkpoint_path, map_location)
        method = cls.from_description(saved["ssl_nlp"], str(checkpoint_path), **overrides)
        try:
            method.load_state_dict(saved["state_dict"])
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{checkpoint_path}: its weights do not fit its {type(method).__name__} ({reason})"
            ) from error
        return method.to(map_location).eval()

    @classmethod
    def from_description(cls, saved: dict[str, Any], where: str, **overrides: Any) -> Self:
        """A method with new weights, from what `on_save_checkpoint` has put into a checkpoint.

        Args:
            saved: plain data of unknown origin.
            where: the file that they are from, for messages.
            overrides: arguments of the constructor that take the place of those saved.

        Raises:
            UserError: they are broken, or need a class that is not loaded or does not belong there.
        """
        method = checkpoints.instantiate(saved["method"], cls, overrides, where)
        method.connect(Tokenizer(saved["tokenizer"]))
        return method


def arguments_of(method: Method) -> set[str] | None:
    """The names of the arguments of the constructor that is being called; None if some have no name, being among *args."""
    given: set[str] | None = set()
    frame = inspect.currentframe()
    while frame is not None:  # the constructor of the object's own class is the outermost one
        names, positional, keywords, values = inspect.getargvalues(frame)
        if frame.f_code.co_name == "__init__" and names and values[names[0]] is method:
            unnamed = positional is not None and values[positional]
            given = None if unnamed else {*names[1:], *(values[keywords] if keywords is not None else ())}
        frame = frame.f_back
    return given


def snake_case(name: str) -> str:
    """`MaskedLM` to `masked_lm`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def pool(hidden: Tensor, batch: TokenBatch, how: Pooling) -> Tensor:
    """(B, D): the mean of the hidden states (B, T, D) over real tokens, or the first or the last of them."""
    if how == "first":
        return hidden[:, 0]
    real = batch.is_text
    if how == "last":
        last = real.sum(dim=1).clamp(min=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = real.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def train_all_but_frozen(module: nn.Module) -> None:
    """Put a module and its parts into training mode, but for those in evaluation mode whose parameters are all frozen.

    Lightning keeps the modes it finds. An encoder that was loaded from a checkpoint is in evaluation mode and would go
    without dropout; one that was frozen (`encoder.requires_grad_(False).eval()`) is meant to stay as it is.
    """
    for part in module.children():
        parameters = list(part.parameters())
        if part.training or not parameters or any(parameter.requires_grad for parameter in parameters):
            train_all_but_frozen(part)
    module.training = True


def longest_stack(encoder: nn.Module) -> nn.ModuleList:
    """The layers of an encoder: the longest of its lists of modules, an empty one if it has none."""
    stacks = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=len, default=nn.ModuleList())
