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

    @classmethod
    def of(cls, setting: "float | Ramp", name: str) -> "Ramp":
        """A setting as a ramp, which a plain number is, too.

        Args:
            setting: a number or a ramp.
            name: of the setting.

        Raises:
            UserError: it is something else, or the ramp takes no steps or more than all.
        """
        if isinstance(setting, bool) or not isinstance(setting, int | float | Ramp):
            raise UserError(f"{name} must be a number, or Ramp(start, end, steps), not {setting!r}")
        ramp = setting if isinstance(setting, Ramp) else cls(setting, setting, steps=1)
        if not (0 < ramp.steps <= 1 if isinstance(ramp.steps, float) else ramp.steps >= 1):
            raise UserError(
                f"{name}.steps must be a whole number of steps, 1 or more, or a share of all steps, such as 0.5, "
                f"not {ramp.steps}"
            )
        return ramp

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

    def ends(self, name: str) -> dict[str, float]:
        """The two values between which all others are, by their options; one if they are the same.

        Args:
            name: of the setting.
        """
        if self.start is self.end or self.start == self.end:  # not a number does not equal itself
            return {name: self.start}
        return {f"{name}.start": self.start, f"{name}.end": self.end}

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
