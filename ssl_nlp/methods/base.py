"""What all methods share: one batch in, a sum of losses out; everything around it is done here."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.optim.lr_scheduler import LambdaLR

from ssl_nlp import checkpoint as checkpoints
from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.distributed import sum_over_ranks
from ssl_nlp.methods.optimization import Optimization, build_optimizer, learning_rate_factor

VALIDATION_SEED = 1_000_003


@dataclass
class Loss:
    """What a method says about one batch.

    Attributes:
        total: scalar, the loss summed over the targets of the batch, in nats where it is a likelihood.
        targets: scalar, how many targets that was.
        metrics: further sums and their counts by name; each is reported as sum / count over all batches and ranks.
    """

    total: Tensor
    targets: Tensor
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Method(LightningModule):
    """A self-supervised objective over an encoder.

    A subclass says whether its encoder must be causal, how its embedding is pooled, creates its heads in `build`, and
    computes a `Loss` from a `TokenBatch` in `loss`. It reads `self.training` to tell training from validation, and
    draws from torch's default generator: the base class seeds that before every batch from (seed, batch, rank).

    Losses are summed over targets and divided by the number of targets over all ranks and accumulated batches.

    Args:
        encoder: what turns tokens into hidden states.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    causal: ClassVar[bool] = False
    pooling: ClassVar[Literal["mean", "last"]] = "mean"
    language_model: ClassVar[bool] = False  # whether exp(loss) is a perplexity

    token_counts: Tensor
    _tokenizer: Tokenizer | None = None

    def __init__(self, encoder: Encoder, optimization: Optimization | None = None, compile: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["encoder"], logger=False)
        self.encoder = encoder
        self.optimization = optimization or Optimization()
        self.compile_encoder = compile
        self._kind = type(self)  # sharding changes the class of an instance
        self._train_sums = Sums()
        self._valid_sums = Sums()
        self._gradient_targets: list[float] = []

    # ------------------------------------------------------------------------------------------ what a method writes

    def build(self) -> None:
        """Create the heads. The encoder, `self.tokenizer` and `self.vocab_size` are known here."""

    def loss(self, batch: TokenBatch) -> Loss:
        """The loss of one batch."""
        raise NotImplementedError

    def targets_per_byte(self, statistics: TextStatistics) -> float | None:
        """Targets of the loss per UTF-8 byte of text, for bits per byte; None for objectives that predict no tokens."""
        return None

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

    def connect(self, tokenizer: Tokenizer) -> None:
        """Create every parameter that depends on the vocabulary. Done once: by `fit` or by loading a checkpoint."""
        if self._tokenizer is not None:
            if self._tokenizer.fingerprint() != tokenizer.fingerprint():
                raise UserError("this method was trained with another tokenizer than the data's: use the same for both")
            return
        self._tokenizer = tokenizer
        self.encoder.build(tokenizer.vocab_size, tokenizer.pad_id, self.causal)
        self.register_buffer("token_counts", torch.zeros(tokenizer.vocab_size, dtype=torch.int64))
        self.build()

    def setup(self, stage: str) -> None:
        """Lightning's hook: connect to the data module's tokenizer."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it when it attaches the data
        if not isinstance(data, TextDataModule):
            if self._tokenizer is None:
                raise UserError("fit a method on a ssl_nlp.data.TextDataModule, or call connect(tokenizer) before")
            return
        with torch.random.fork_rng():
            torch.manual_seed(_seed())  # the same initial weights on every rank and for every order of construction
            self.connect(data.tokenizer)
        if stage == "fit":
            if data.length > self.encoder.max_length:
                raise UserError(
                    f"data.length {data.length} is longer than the encoder's max_length {self.encoder.max_length}: "
                    "shorten the one or raise the other"
                )
            self.token_counts.copy_(torch.from_numpy(data.token_counts()))

    @property
    def sharded(self) -> bool:
        """Whether the parameters are divided among processes, so that only all of them together can run the method."""
        return self.device_mesh is not None

    def configure_model(self) -> None:
        """Lightning's hook, after `setup`: divide the parameters among processes where the strategy asks for it (FSDP2)."""
        if not self.sharded or isinstance(self, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]  # type: ignore[index]  # there is one where it is sharded
        stacks = [module for module in self.encoder.modules() if isinstance(module, nn.ModuleList)]
        for layer in max(stacks, key=len, default=nn.ModuleList()):
            fully_shard(layer, mesh=mesh)
        fully_shard(self, mesh=mesh)
        register_fsdp_forward_method(self, "loss")  # Lightning calls training_step, never forward

    # ------------------------------------------------------------------------------------------ training, validation

    def on_fit_start(self) -> None:
        if self.compile_encoder:
            self.encoder.compile(dynamic=None)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        batches = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(_mix(_seed(), batches, self.global_rank))
        loss = self.loss(batch)
        self._train_sums.add("loss", loss.total, loss.targets)
        self._train_sums.update(loss.metrics)
        return self._over_all_targets(loss)

    def _over_all_targets(self, loss: Loss) -> Tensor:
        """The loss whose gradient, once averaged over ranks and accumulated batches, is that of the mean over targets.

        Every batch is divided by the targets of the first batch of its accumulation window (over all ranks), so that
        magnitudes stay sane in half precision; `on_before_optimizer_step` corrects for what the others had.
        """
        targets = sum_over_ranks(loss.targets)
        if self.trainer.accumulate_grad_batches > 1:
            self._gradient_targets.append(float(targets))
            targets = targets.new_tensor(self._gradient_targets[0])
        return loss.total * (self.trainer.world_size / targets.clamp(min=1))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._gradient_targets:
            return
        window, self._gradient_targets = self._gradient_targets, []
        factor = self.trainer.accumulate_grad_batches * max(window[0], 1) / max(sum(window), 1)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def on_train_batch_end(self, outputs: Any, batch: TokenBatch, batch_idx: int) -> None:
        if not self.trainer._logger_connector.should_update_logs and not self.trainer.is_last_batch:
            return
        means = self._train_sums.means_over_ranks()
        if not means:
            return
        for name, mean in means.items():
            self.log(f"train/{name}", mean, prog_bar=name == "loss")
        for group in self.trainer.optimizers[0].param_groups:
            self.log(f"train/learning_rate/{group['name']}", group["lr"])

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx)

    def test_step(self, batch: TokenBatch, batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx)

    def _evaluation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        torch.manual_seed(_mix(VALIDATION_SEED, batch_idx, self.global_rank))
        loss = self.loss(batch)
        self._valid_sums.add("loss", loss.total, loss.targets)
        self._valid_sums.update(loss.metrics)

    def on_validation_epoch_start(self) -> None:
        self._valid_sums = Sums()

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val", "valid")

    def on_test_epoch_start(self) -> None:
        self._valid_sums = Sums()

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test", "test")

    def _log_evaluation(self, prefix: str, split: Literal["valid", "test"]) -> None:
        means = self._valid_sums.means_over_ranks()
        if self.language_model:
            means["perplexity"] = means["loss"].exp()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, TextDataModule) and (ratio := self.targets_per_byte(data.statistics(split))) is not None:
            means["bits_per_byte"] = means["loss"] * (ratio / torch.log(torch.tensor(2.0)))
        for name, mean in means.items():
            self.log(f"{prefix}/{name}", mean.float(), prog_bar=name == "loss")

    def predict_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        return self._pool(batch)

    def configure_optimizers(self) -> Any:
        steps = self.trainer.estimated_stepping_batches
        optimizer = build_optimizer(self, self.optimization)
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, self.optimization))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---------------------------------------------------------------------------------------------------- embeddings

    @torch.no_grad()
    def embed(self, texts: Iterable[str], batch_size: int = 64) -> Tensor:
        """Frozen embeddings of texts, (N, D) float32 on the CPU, in evaluation mode; the mode is restored after."""
        texts = list(texts)
        ids = [ids for ids, _ in self.tokenizer.encode(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        training = self.training
        self.eval()
        embeddings = torch.empty(len(ids), self.encoder.dim)
        for start in range(0, len(ids), batch_size):
            rows = order[start : start + batch_size]
            batch = pad_rows([ids[i] for i in rows], None, self.tokenizer, self.encoder.max_length)
            embeddings[rows] = self._pool(batch.to(self.device)).float().cpu()
        self.train(training)
        return embeddings

    def _pool(self, batch: TokenBatch) -> Tensor:
        """(B, D): the mean over real tokens, or the last real token."""
        hidden = self.encoder(batch)
        real = batch.is_text
        if self.pooling == "last":
            last = real.sum(dim=1).clamp(min=1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        weights = real.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    # --------------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint self-contained: class, hyperparameters and tokenizer, as plain data."""
        checkpoint["hyper_parameters"] = {}
        checkpoint["ssl_nlp"] = {
            "method": checkpoints.describe(self._kind, self._init_args()),
            "tokenizer": self.tokenizer.serialize(),
        }

    def _init_args(self) -> dict[str, Any]:
        return dict(self.hparams) | {"encoder": checkpoints.describe(type(self.encoder), self.encoder.hparams())}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # nothing but the file is needed, so nothing else is asked for
        cls, checkpoint_path: str | os.PathLike[str], map_location: str | torch.device = "cpu", **overrides: Any
    ) -> Self:
        """The method in a checkpoint, ready to `embed`, whichever way it was trained.

        Raises:
            UserError: the file is missing, broken, or not a checkpoint of ours.
        """
        saved = checkpoints.read(checkpoint_path, map_location)
        method = checkpoints.instantiate(saved["ssl_nlp"]["method"], cls, overrides)
        method.connect(Tokenizer(saved["ssl_nlp"]["tokenizer"]))
        method.load_state_dict(saved["state_dict"])
        return method.to(map_location).eval()


class Sums:
    """Sums and counts by name, in float64, over batches and at the end over ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add a total and the count that it is to be divided by."""
        pair = torch.stack([total.detach().double(), count.detach().double()])
        self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def update(self, pairs: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Add several by name."""
        for name, (total, count) in pairs.items():
            self.add(name, total, count)

    def means_over_ranks(self) -> dict[str, Tensor]:
        """Total / count of each name over all ranks, and start again. Every rank must call it."""
        if not self._sums:
            return {}
        table = sum_over_ranks(torch.stack([self._sums[name] for name in sorted(self._sums)]))
        means = dict(zip(sorted(self._sums), table[:, 0] / table[:, 1], strict=True))
        self._sums = {}
        return means


def _seed() -> int:
    """The run's seed, as `seed_everything` left it."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def _mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers: near inputs give unrelated seeds (the mixing step of splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state >> 1
