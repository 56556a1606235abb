"""Settings of the optimizer and of the learning rate schedule, the same for all methods."""

import math
import sys
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ssl_nlp.errors import UserError, refuse
from ssl_nlp.terminal import say

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

    optimizer: str = "adamw"
    """`adamw`, `muon`, or the path of a class such as torch.optim.RMSprop, which `optimizer_args` configures. Muon
    trains the matrices of hidden layers, and AdamW everything else."""
    learning_rate: float = 1e-3
    """Peak learning rate, except that of Muon."""
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
    schedule: str = "cosine"
    """`cosine`, `linear`, `warmup_stable_decay`, `constant`, or the path of a class such as
    torch.optim.lr_scheduler.StepLR, which `schedule_args` configures. Ours follow the warm-up and, except `constant`, need
    to know the number of steps; a class does without the warm-up and steps with the optimizer."""
    decay: float = 0.2
    """Share of all steps in which `warmup_stable_decay` falls."""
    final: float = 0.1
    """Share of the peak learning rate that is left at the end; `constant` ignores it."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer of the encoder to the one below, such as 0.8 in fine-tuning. Heads have
    the full rate, layer l of L has layer_decay^(L + 1 - l) of it, and the embeddings count as layer 0 (arXiv:2106.08254,
    appendix). The logged rate belongs to the heads, or to the highest layer that is trained."""
    optimizer_args: dict[str, Any] | None = None
    """Arguments of an optimizer that is named by its path, besides learning rate and weight decay."""
    schedule_args: dict[str, Any] | None = None
    """Arguments of a schedule that is named by its path."""

    def __post_init__(self) -> None:
        problems = {
            f"optimizer {self.optimizer!r} is unknown: use adamw, muon or the path of a class, such as torch.optim.SGD": (
                self.optimizer not in get_args(OptimizerName) and not _is_path(self.optimizer)
            ),
            f"schedule {self.schedule!r} is unknown: use {', '.join(get_args(Schedule))} or the path of a class": (
                self.schedule not in get_args(Schedule) and not _is_path(self.schedule)
            ),
            f"optimizer {self.optimizer} takes no optimizer_args: it has settings of its own": (
                bool(self.optimizer_args) and not _is_path(self.optimizer)
            ),
            "optimizer_args name lr or weight_decay: set learning_rate or weight_decay instead": (
                not {"lr", "weight_decay"}.isdisjoint(self.optimizer_args or {})
            ),
            f"schedule {self.schedule} takes no schedule_args: it has settings of its own": (
                bool(self.schedule_args) and not _is_path(self.schedule)
            ),
            f"learning_rate must be positive, not {self.learning_rate}": not self.learning_rate > 0,
            f"muon_learning_rate must be positive, or null, not {self.muon_learning_rate}": (
                self.muon_learning_rate is not None and not self.muon_learning_rate > 0
            ),
            f"weight_decay must be 0 or more, not {self.weight_decay}": not self.weight_decay >= 0,
            f"betas must both be at least 0 and less than 1, not {list(self.betas)}": not all(
                0 <= beta < 1 for beta in self.betas
            ),
            f"eps must be positive, not {self.eps}": not self.eps > 0,
            f"warmup must be 0 or more, not {self.warmup}": not self.warmup >= 0,
            f"warmup {self.warmup} is a share above 1 (a number of steps must be whole)": (
                isinstance(self.warmup, float) and self.warmup > 1
            ),
            "learning_rate, muon_learning_rate, weight_decay and eps must be finite": math.inf
            in (self.learning_rate, self.muon_learning_rate, self.weight_decay, self.eps),
            f"decay must be above 0 and at most 1, not {self.decay}": not 0 < self.decay <= 1,
            f"final must be between 0 and 1, not {self.final}": not 0 <= self.final <= 1,
            f"layer_decay must be above 0 and at most 1, not {self.layer_decay}": not 0 < self.layer_decay <= 1,
            f"warmup {self.warmup} and decay {self.decay} together exceed all steps": (
                self.schedule == "warmup_stable_decay"
                and isinstance(self.warmup, float)
                and self.warmup <= 1
                and 0 < self.decay <= 1 < self.warmup + self.decay
            ),
        }
        refuse(problems, "optimization")


def _is_path(name: str) -> bool:
    """Whether a name is the path of a class in a module."""
    return "." in name and all(part.isidentifier() for part in name.split("."))


def unusual_for_pretrained(optimization: Optimization) -> str | None:
    """The learning rate that is unusually high for pretrained weights, as `name value`, or None."""
    muon = optimization.muon_learning_rate
    if optimization.optimizer == "muon" and muon is not None and muon > USUAL_MUON:
        return f"muon_learning_rate {muon}"
    if optimization.optimizer in get_args(OptimizerName) and optimization.learning_rate > USUAL_ADAMW:
        return f"learning_rate {optimization.learning_rate}"
    return None


def warn_if_unusual(optimization: Optimization) -> None:
    """Warn on standard error of a learning rate that is unusually high for pretrained weights."""
    if setting := unusual_for_pretrained(optimization):
        say(
            f"warning: optimization.{setting} is unusually high for pretrained weights and may destroy in a few steps "
            "what they have learned: use AdamW with a learning_rate of 2e-5 to 5e-5 (encoder/bert-base-uncased.yaml)",
            sys.stderr,
        )


def learning_rate_factor(step: int, total_steps: float, optimization: Optimization) -> float:
    """The share of the peak learning rate in optimizer step `step`, counted from 0.

    The warm-up rises to 1 in its last step. Then `cosine` and `linear` fall to `final`, which is reached just after the
    last step; `warmup_stable_decay` stays at 1 and falls at the end as 1 - sqrt (arXiv:2405.18392, section 3.2).

    Args:
        step: 0 is the first one.
        total_steps: of the whole run; infinite or not positive if unknown.
        optimization: schedule (one of ours), warm-up, decay and final.

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
