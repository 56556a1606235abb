"""A setting that changes over the steps of a training."""

import math
from dataclasses import dataclass

from ssl_nlp.errors import UserError


@dataclass(frozen=True)
class Ramp:
    """A number that changes linearly from its value in the first step to another one, which it then keeps."""

    start: float
    """Value in the first step."""
    end: float
    """Value after `steps`."""
    steps: int | float = 1.0
    """Steps of the optimizer until then: a number if whole (1000), a share of all steps if not (0.4)."""

    def __post_init__(self) -> None:
        if not (0 < self.steps <= 1 if isinstance(self.steps, float) else self.steps >= 1):
            raise UserError(f"steps {self.steps} is neither a number of steps, 1 or more, nor a share in (0, 1]")

    @classmethod
    def of(cls, setting: "float | Ramp") -> "Ramp":
        """A setting as a ramp, which a plain number is, too."""
        return setting if isinstance(setting, Ramp) else cls(setting, setting, steps=1)

    def check(self, name: str, total_steps: float) -> None:
        """Check that the ramp can be followed to its end.

        Args:
            name: of the setting.
            total_steps: of the whole training; infinite if unknown.

        Raises:
            UserError: the ramp takes a share of all steps, and their number is unknown.
        """
        if isinstance(self.steps, float) and total_steps == math.inf:
            raise UserError(
                f"{name} changes over a share of all steps ({self.steps}), and their number is unknown: set "
                f"trainer.max_steps, or give a number of steps in {name}.steps"
            )

    @property
    def ends(self) -> tuple[float, float]:
        """The two values between which all others are."""
        return self.start, self.end

    def at(self, step: int, total_steps: float) -> float:
        """The value in an optimizer step, of which 0 is the first.

        Args:
            step: outside of a training, 0.
            total_steps: of the whole training; infinite if unknown.
        """
        return self.start + (self.end - self.start) * min(step / self._length(total_steps), 1.0)

    def sum_before(self, step: int, total_steps: float) -> float:
        """The sum of the values in all steps before `step`; takes the arguments of `at`."""
        length = self._length(total_steps)
        rising = step if step <= length else math.ceil(length)  # steps before the last value is reached
        change = (self.end - self.start) / length * rising * (rising - 1) / 2
        return self.start * rising + change + self.end * (step - rising)

    def _length(self, total_steps: float) -> float:
        return self.steps * total_steps if isinstance(self.steps, float) else float(self.steps)
