"""Low-rank adapters: LoRA, and AdaLoRA, which divides the ranks among the matrices while it trains."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ssl_nlp.encoders.adapters.base import NAME, LayerAdapter, adapted_layers, linear_maps
from ssl_nlp.errors import UserError, refuse

if TYPE_CHECKING:
    from peft import AdaLoraConfig, LoraConfig

    from ssl_nlp.encoders.base import Encoder

PARTS = ("lora_A", "lora_B", "lora_E")


@dataclass(frozen=True)
class LoRA(LayerAdapter):
    """Add a product of two narrow matrices to each targeted matrix: W + alpha / rank B A (Hu et al., arXiv:2106.09685).

    Args:
        rank: inner dimension of the product.
        alpha: scale of the product, in units of rank.
        dropout: of the input of the product.
        targets: ends of the names of the linear maps to adapt, such as [query, value]. None: all of them, without which
            LoRA does not reach full fine-tuning (Dettmers et al., arXiv:2305.14314, section 4).
        norms_and_biases: whether norms and biases of the base train too. peft's own format cannot hold them.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: list[str] | None = None
    norms_and_biases: bool = False

    def __post_init__(self) -> None:
        refuse(
            {
                f"rank must be 1 or more, not {self.rank}": self.rank < 1,
                f"alpha must be positive, not {self.alpha}": not 0 < self.alpha < math.inf,
                f"dropout must be at least 0 and less than 1, not {self.dropout}": not 0 <= self.dropout < 1,
            },
            "encoder.adapter",
        )

    def config(self, encoder: "Encoder") -> "LoraConfig":
        from peft import LoraConfig

        return LoraConfig(r=self.rank, **_shared(self, encoder))


@dataclass(frozen=True)
class AdaLoRA(LayerAdapter):
    """LoRA as a singular value decomposition, whose least important ranks are cut (Zhang et al., arXiv:2303.10512).

    Each matrix W becomes W + alpha / initial_rank P diag(E) Q. Between the first and the last part of the training the
    ranks over all matrices fall to `rank` on average, as a cubic; the least important entries of E become 0.

    Args:
        rank: that is left on average at the end.
        initial_rank: of each matrix at the beginning; it is also the size of P and Q.
        alpha: scale of the product, in units of the initial rank.
        dropout: of the input of the product.
        begin: share of the training before ranks are cut.
        end: share of the training after the last cut.
        every: steps between two cuts.
        orthogonality: weight of the penalty that keeps P and Q orthogonal (equation 4). It is added to the loss of the
            training, not to the one that is logged.
        smoothing: share that the moving averages of importance and of its uncertainty keep in a step.
        targets: ends of the names of the linear maps to adapt. None: all of them.
        norms_and_biases: whether norms and biases of the base train too. peft's own format cannot hold them.
    """

    rank: int = 8
    initial_rank: int = 12
    alpha: float = 16.0
    dropout: float = 0.0
    begin: float = 0.1
    end: float = 0.3
    every: int = 1
    orthogonality: float = 0.5
    smoothing: float = 0.85
    targets: list[str] | None = None
    norms_and_biases: bool = False

    def __post_init__(self) -> None:
        refuse(
            {
                f"rank must be 1 or more, not {self.rank}": self.rank < 1,
                f"initial_rank {self.initial_rank} is not larger than rank {self.rank}": self.initial_rank <= self.rank,
                f"alpha must be positive, not {self.alpha}": not 0 < self.alpha < math.inf,
                f"dropout must be at least 0 and less than 1, not {self.dropout}": not 0 <= self.dropout < 1,
                f"begin {self.begin} and end {self.end} must be shares that leave room for cuts": (
                    self.begin < 0 or self.end < 0 or self.begin + self.end >= 1
                ),
                f"every must be 1 or more, not {self.every}": self.every < 1,
                f"orthogonality must be 0 or more, not {self.orthogonality}": not 0 <= self.orthogonality < math.inf,
                f"smoothing must be between 0 and 1, not {self.smoothing}": not 0 < self.smoothing < 1,
            },
            "encoder.adapter",
        )

    def config(self, encoder: "Encoder") -> "AdaLoraConfig":
        return self._config(10_000, **_shared(self, encoder))  # the number of steps is not known yet

    def _config(self, steps: int, **shared: Any) -> "AdaLoraConfig":
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            target_r=self.rank,
            init_r=self.initial_rank,
            tinit=round(self.begin * steps),
            tfinal=round(self.end * steps),
            total_step=steps,
            deltaT=self.every,
            beta1=self.smoothing,
            beta2=self.smoothing,
            orth_reg_weight=self.orthogonality,
            **shared,
        )

    def _create(self, encoder: "Encoder") -> None:
        super()._create(encoder)
        # State of the allocation of ranks, as buffers, so that checkpoints hold it and copies have their own.
        for _, layer in adapted_layers(encoder.adapted):
            for part in PARTS:
                importance = torch.zeros_like(getattr(layer, part)[NAME]).repeat(2, 1, 1)
                layer.register_buffer(f"{part}_importance", importance)
            layer.register_buffer("kept", torch.ones_like(layer.lora_E[NAME], dtype=torch.bool))

    def penalty(self, encoder: "Encoder") -> Tensor:
        """As in `Adapter`.

        Raises:
            UserError: the matrices are divided among processes.
        """
        distances = []
        for _, layer in adapted_layers(encoder.adapted):
            if isinstance(layer.lora_A[NAME], DTensor):
                raise UserError("AdaLoRA compares whole matrices, which FSDP divides among processes: use ddp, or LoRA")
            for matrix in (layer.lora_A[NAME], layer.lora_B[NAME].T):
                eye = torch.eye(len(matrix), device=matrix.device, dtype=matrix.dtype)
                distances.append(torch.linalg.matrix_norm(matrix @ matrix.T - eye))
        return self.orthogonality * torch.stack(distances).mean()

    @torch.no_grad()
    def after_step(self, encoder: "Encoder", step: int, steps: float) -> None:
        """Cut ranks as `AdaLoraModel.update_and_allocate` of peft does.

        Raises:
            UserError: the number of steps is unknown or leaves no room for cuts.
        """
        from peft.tuners.adalora.layer import RankAllocator

        if math.isinf(steps):
            raise UserError("AdaLoRA needs the number of steps: set trainer.max_steps")
        if round(self.begin * steps) + round(self.end * steps) >= steps:
            raise UserError(f"AdaLoRA has no room to cut ranks in {steps} steps: raise trainer.max_steps")
        config = self._config(int(steps))
        last = int(steps) - config.tfinal
        layers = dict(adapted_layers(encoder.adapted))
        if step > last:
            for layer in layers.values():
                layer.lora_E[NAME].masked_fill_(~layer.kept, 0.0)
            return
        allocator = RankAllocator(encoder.adapted, config, NAME)
        for name, layer in layers.items():
            for part in PARTS:
                key = f"{name}.{part}.{NAME}"
                allocator.ipt[key] = None
                allocator.exp_avg_ipt[key], allocator.exp_avg_unc[key] = getattr(layer, f"{part}_importance").unbind()
        if all(parameter.grad is None for parameter in encoder.parameters()):  # the encoder's player rests in this step
            allocator.update_ipt = lambda model: None  # type: ignore[method-assign]  # this allocator serves one step
        _, kept = allocator.update_and_allocate(encoder.adapted, step, force_mask=step == last)
        for name, layer in layers.items():
            for part in PARTS:
                key = f"{name}.{part}.{NAME}"
                importance = torch.stack([allocator.exp_avg_ipt[key], allocator.exp_avg_unc[key]])
                getattr(layer, f"{part}_importance").copy_(importance)
            if kept:
                entries = kept[f"{name}.lora_E.{NAME}"]
                layer.kept.copy_(torch.tensor(entries, device=layer.kept.device)[:, None])


def _shared(adapter: LoRA | AdaLoRA, encoder: "Encoder") -> dict[str, Any]:
    """The arguments that both configurations have."""
    maps = linear_maps(encoder.adapted, adapter.targets)
    return {
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": sorted(maps),
        "fan_in_fan_out": not any(isinstance(part, nn.Linear) for part in maps.values()),
    }
