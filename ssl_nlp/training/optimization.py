"""Optimizer and learning rate schedule, the same for all methods."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ssl_nlp.errors import UserError

# Coefficients (a, b, c) of a x + b x^3 + c x^5 in each step of `orthogonalize`: the polynomial nearest to 1 between what
# the steps before leave of 0.01 and, but for a margin of 0.1 for rounding in bfloat16, what they leave at most.
NEWTON_SCHULZ = ((8.0934, -23.6204, 17.4462), (3.4877, -2.3672, 0.4220), (2.6128, -1.7656, 0.3605))
MOMENTUM = 0.95

# Peak learning rates above which pretrained weights are trained unusually fast. BERT is fine-tuned by AdamW at 2e-5 to 5e-5
# (arXiv:1810.04805, appendix A.3): AdamW's bound is twice the highest of these. At Muon's bound its updates of a matrix of
# width 768 are as large as AdamW's at AdamW's: 0.2 sqrt(768) times as much (arXiv:2502.16982, section 2.2).
USUAL_ADAMW = 1e-4
USUAL_MUON = 5e-4

OptimizerName = Literal["adamw", "muon"]
Schedule = Literal["cosine", "linear", "warmup_stable_decay", "constant"]


@dataclass
class Optimization:
    """Optimizer and learning rate schedule. Steps are optimizer steps, whatever is accumulated into one."""

    optimizer: OptimizerName = "adamw"
    """`muon` is Muon for the matrices of hidden layers and AdamW for everything else."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    muon_learning_rate: float | None = 0.02
    """Peak learning rate of Muon. With null, `learning_rate` serves Muon too: its updates are then scaled to the size of
    AdamW's (arXiv:2502.16982, section 2.2)."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices; norms, biases and embeddings have none."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the two moments."""
    eps: float = 1e-8
    """AdamW's term in the denominator."""
    warmup: int | float = 0.05
    """Linear warm-up from 0: a number of steps if whole (200), a share of all steps if not (0.05)."""
    schedule: Schedule = "cosine"
    """What follows the warm-up. All but `constant` need to know the number of steps."""
    decay: float = 0.2
    """Share of all steps in which `warmup_stable_decay` falls."""
    final: float = 0.1
    """Share of the peak learning rate that is left at the end; `constant` ignores it."""

    def __post_init__(self) -> None:
        problems = {
            f"optimizer {self.optimizer!r} is unknown: use adamw or muon": (
                self.optimizer not in get_args(OptimizerName)
            ),
            f"schedule {self.schedule!r} is unknown: use {', '.join(get_args(Schedule))}": (
                self.schedule not in get_args(Schedule)
            ),
            f"learning_rate {self.learning_rate} is not positive": not self.learning_rate > 0,
            f"muon_learning_rate {self.muon_learning_rate} is not positive (nor null)": (
                self.muon_learning_rate is not None and not self.muon_learning_rate > 0
            ),
            f"weight_decay {self.weight_decay} is negative": not self.weight_decay >= 0,
            f"betas {list(self.betas)} are not both in [0, 1)": not all(0 <= beta < 1 for beta in self.betas),
            f"eps {self.eps} is not positive": not self.eps > 0,
            f"warmup {self.warmup} is negative": not self.warmup >= 0,
            f"warmup {self.warmup} is a share above 1 (a number of steps must be whole)": (
                isinstance(self.warmup, float) and self.warmup > 1
            ),
            "learning_rate, muon_learning_rate, weight_decay and eps must be finite": math.inf
            in (self.learning_rate, self.muon_learning_rate, self.weight_decay, self.eps),
            f"decay {self.decay} is not in (0, 1]": not 0 < self.decay <= 1,
            f"final {self.final} is not in [0, 1]": not 0 <= self.final <= 1,
            f"warmup {self.warmup} and decay {self.decay} together exceed all steps": (
                self.schedule == "warmup_stable_decay"
                and isinstance(self.warmup, float)
                and self.warmup <= 1
                and 0 < self.decay <= 1 < self.warmup + self.decay
            ),
        }
        if found := [text for text, holds in problems.items() if holds]:
            raise UserError(f"optimization: {'; '.join(found)}")


def unusual_for_pretrained(optimization: Optimization) -> str | None:
    """The setting that is too high for weights that were trained before, as `name value`; None if none is."""
    muon = optimization.muon_learning_rate
    if optimization.optimizer == "muon" and muon is not None and muon > USUAL_MUON:
        return f"muon_learning_rate {muon}"
    return f"learning_rate {optimization.learning_rate}" if optimization.learning_rate > USUAL_ADAMW else None


def learning_rate_factor(step: int, total_steps: float, optimization: Optimization) -> float:
    """The share of the peak learning rate in optimizer step `step`, counted from 0.

    The warm-up rises to 1 in its last step. Then `cosine` and `linear` fall to `final`, which is reached just after the
    last step; `warmup_stable_decay` stays at 1 and falls at the end as 1 - sqrt (arXiv:2405.18392, section 3.2).

    Args:
        step: 0 is the first one.
        total_steps: of the whole run; infinite or not positive if unknown.
        optimization: schedule, warm-up, decay and final.

    Raises:
        UserError: the schedule needs the number of steps, and it is unknown.
    """
    schedule, warmup = optimization.schedule, optimization.warmup
    known = 0 < total_steps < math.inf
    if not known and (schedule != "constant" or isinstance(warmup, float)):
        share = f"warmup {warmup} as a share of all steps" if schedule == "constant" else f"schedule {schedule}"
        raise UserError(f"optimization: {share} needs the number of steps: set trainer.max_steps")
    warmup_steps = round(warmup * total_steps) if isinstance(warmup, float) else warmup
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    start = float(warmup_steps)
    if schedule == "warmup_stable_decay":
        start = max(start, total_steps - round(optimization.decay * total_steps))
    progress = min(max((step - start) / max(total_steps - start, 1), 0.0), 1.0)
    fallen = {
        "cosine": (1 - math.cos(math.pi * progress)) / 2,
        "linear": progress,
        "warmup_stable_decay": math.sqrt(progress),
    }[schedule]
    return 1 - (1 - optimization.final) * fallen


def build_optimizer(module: nn.Module, optimization: Optimization) -> Optimizer:
    """AdamW, or Muon with AdamW, over all parameters that require a gradient, each once.

    The parameter groups have names. `no_decay`: norms, biases, embeddings and other vectors. `muon`, with Muon: the other
    matrices, save those with the shape of an embedding, which are output layers over its vocabulary. `decay`: the rest.

    Raises:
        UserError: nothing can be trained, or Muon finds no whole matrix.
    """
    groups: dict[str, list[Tensor]] = {"muon": [], "decay": [], "no_decay": []}
    embeddings = {p for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    vocabularies = {p.shape for p in embeddings if p.shape[0] != p.shape[-1]}
    seen: set[Tensor] = set()
    for owner in module.modules():
        norm = "norm" in type(owner).__name__.lower()
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            if norm or "bias" in name or parameter in embeddings or (parameter.ndim < 2 and "weight" not in name):
                groups["no_decay"].append(parameter)
            elif optimization.optimizer == "muon" and parameter.ndim == 2 and parameter.shape not in vocabularies:
                groups["muon"].append(parameter)
            else:
                groups["decay"].append(parameter)
    if not seen:
        raise UserError("nothing to optimize: no parameter requires a gradient")
    if optimization.optimizer == "adamw":
        optimizer: Optimizer = AdamW(_adamw_groups(groups, optimization), fused=True)
        # Lightning refuses to clip gradients for an optimizer that could unscale them itself. Let it unscale them first.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizer
    if not groups["muon"]:
        raise UserError("optimization: muon finds no whole matrix (there is none, or FSDP has cut them): set adamw")
    matched = optimization.muon_learning_rate is None
    muon = {
        "name": "muon",
        "params": groups["muon"],
        "lr": optimization.learning_rate if matched else optimization.muon_learning_rate,
        "weight_decay": optimization.weight_decay,
        "match_adamw": matched,
    }
    return MuonWithAdamW([muon, *_adamw_groups(groups, optimization)])


def _adamw_groups(parameters: dict[str, list[Tensor]], optimization: Optimization) -> list[dict[str, Any]]:
    decay = {"decay": optimization.weight_decay, "no_decay": 0.0}
    shared = {"lr": optimization.learning_rate, "betas": optimization.betas, "eps": optimization.eps}
    return [
        {"name": name, "params": parameters[name], "weight_decay": decay[name], **shared}
        for name in decay
        if parameters[name]
    ]


class MuonWithAdamW(Optimizer):
    """Muon for the parameter groups named `muon`, fused AdamW for the others, as one optimizer.

    Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon) steps along the orthogonalized Nesterov momentum of a
    matrix. Unlike `torch.optim.Muon` this takes all matrices of a shape at once, which is quicker on CPUs and GPUs alike.

    Args:
        groups: parameter groups. Those of Muon have `lr`, `weight_decay` and `match_adamw`: whether updates are scaled to
            the size of AdamW's (arXiv:2502.16982, section 2.2) instead of by sqrt(max(1, rows / columns)).
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, defaults={})
        self._attach_adamw()

    def _attach_adamw(self) -> None:
        """An AdamW over the same group and state objects, so that schedules and checkpoints see one optimizer."""
        groups = [group for group in self.param_groups if group["name"] != "muon"]
        self._adamw = AdamW(groups or [{"params": []}], fused=True)
        self._adamw.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._attach_adamw()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["name"] == "muon":
                by_shape = defaultdict(list)
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        by_shape[parameter.shape, parameter.device, parameter.dtype].append(parameter)
                for parameters in by_shape.values():
                    self._muon_step(parameters, group)
        self._adamw.step()
        return loss

    def _muon_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = orthogonalize(torch.stack(torch._foreach_lerp(gradients, momenta, MOMENTUM)))
        rows, columns = updates.shape[1:]
        scale = 0.2 * math.sqrt(max(rows, columns)) if group["match_adamw"] else math.sqrt(max(1, rows / columns))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates.to(parameters[0].dtype).unbind(), alpha=-group["lr"] * scale)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices (N, rows, columns) near 1 (0.7 to 1.3), but keep their singular vectors.

    Newton-Schulz steps X <- a X + (b A + c A^2) X with A = X X^T, whose coefficients change from step to step so that a few
    steps suffice (Amsel et al., "The Polar Express", arXiv:2505.16932, section 3), in bfloat16 where it is quick. Matrices
    are first divided by the fourth root of the sum of fourth powers of their singular values, which is nearer to the
    largest one than the Frobenius norm. Singular values below a hundredth of that come closer to 1 but do not reach it.
    """
    x = matrices.to(_quick_dtype(matrices.device))
    tall = x.shape[1] > x.shape[2]
    gram = x.mT @ x if tall else x @ x.mT
    largest = gram.flatten(1).norm(dim=1, dtype=torch.float32).clamp(min=1e-14)[:, None, None].to(x.dtype)
    x, gram = x / largest.sqrt(), gram / largest
    for step, (a, b, c) in enumerate(NEWTON_SCHULZ):
        if step > 0:
            gram = x.mT @ x if tall else x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, polynomial, beta=a) if tall else torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _quick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, except on CPUs that have no instructions for its matrix products."""
    return torch.bfloat16 if device.type != "cpu" or cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for matrix products in bfloat16."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
