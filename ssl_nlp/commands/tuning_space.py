"""The space that `tune` searches: the settings of each method, and the values that they may have."""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ssl_nlp.commands.complaints import nearest
from ssl_nlp.commands.model_classes import MODELS
from ssl_nlp.commands.shipped import find_config
from ssl_nlp.errors import UserError
from ssl_nlp.runs.checkpoint import subclasses

ALL = "all"
TEXT_OF_A_STEP = ("data.batch_size", "data.length", "trainer.accumulate_grad_batches")
DIGITS = 3  # of a number that is drawn, so that configurations can be read


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, which are included: whole ones if both ends are whole.

    Attributes:
        log: whether their logarithms are drawn uniformly, rather than they themselves.
    """

    low: float
    high: float
    log: bool = False

    def draw(self, rng: np.random.Generator) -> int | float:
        """One of them at random."""
        low, high = self.low, self.high
        if self.whole:
            low, high = low - 0.5, high + 0.5
        share = rng.random()
        value = (
            math.exp((1 - share) * math.log(low) + share * math.log(high)) if self.log else low + share * (high - low)
        )
        rounded = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return type(self.low)(min(max(rounded, self.low), self.high))

    @property
    def whole(self) -> bool:
        """Whether they are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """Values of any kind, each as likely as the others."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """One of them at random."""
        return self.values[rng.integers(len(self.values))]


Space = Mapping[str, Range | Choice]
"""By the option of `fit`, without its dashes: `model.masking_rate`."""


def draw(space: Space, seed: int, method: str, trial: int) -> dict[str, Any]:
    """The values of one trial. Each follows from the seed, the method, the number of the trial and the option alone."""
    return {
        option: values.draw(np.random.default_rng((seed, zlib.crc32(f"{method} {option}".encode()), trial)))
        for option, values in space.items()
    }


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """Values as arguments of `fit`."""
    return [f"--{option}={value if isinstance(value, str) else json.dumps(value)}" for option, value in values.items()]


def read_spaces(name: str) -> dict[str, dict[str, Range | Choice | None]]:
    """The spaces in a YAML file, by the class of the method, and for all of them.

    Args:
        name: a file, or the name of a shipped one.

    Raises:
        UserError: the file is something else, or a class or a range is wrong.
    """
    path = find_config(name)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--space {name} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        raise UserError(f"--space {name}: write `all:` or the class of a method, and its options below it")
    known = [ALL, *(kind.__name__ for kind in subclasses(MODELS))]
    for kind in content:
        if kind not in known:
            meant = nearest(str(kind), known)
            raise UserError(f"--space {name}: there is no method {kind}{f': did you mean {meant}?' if meant else ''}")
    return {
        kind: {option: _values(f"--space {name}: {kind}, {option}", given) for option, given in part.items()}
        for kind, part in content.items()
    }


def _values(place: str, given: Any) -> Range | Choice | None:
    if given is None:
        return None
    if isinstance(given, list) and given:
        return Choice(tuple(given))
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys() <= {"low", "high", "log"}:
        raise UserError(f"{place}: write a list of choices, {{low: A, high: B}} or {{low: A, high: B, log: true}}")
    low, high, log = given["low"], given["high"], given.get("log", False)
    for number in (low, high):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UserError(f"{place}: {number!r} is not a number: write 0.0001, or 1.0e-4 with a decimal point")
    if not low < high or not isinstance(log, bool) or (log and low <= 0):
        raise UserError(f"{place}: low must be less than high{', and more than 0 for log: true' if log else ''}")
    return (
        Range(low, high, log) if isinstance(low, int) and isinstance(high, int) else Range(float(low), float(high), log)
    )


def space_of(
    spaces: Mapping[str, Mapping[str, Range | Choice | None]], config: Mapping[str, Any]
) -> tuple[Space, list[str]]:
    """The space of one method, and the options for all methods that it does not have.

    Args:
        spaces: from `read_spaces`.
        config: the complete configuration of the method.

    Raises:
        UserError: an option of the method's own is one that it does not have.
    """
    kind = str(config["model"]["class_path"]).rpartition(".")[2]
    own = spaces.get(kind, {})
    for option in own:
        if own[option] is not None and not _has(config, option):
            meant = nearest(f"--{option}", _options(config))
            raise UserError(f"{kind} has no option {option}{f': did you mean {meant[2:]}?' if meant else ''}")
    shared = {option: values for option, values in spaces.get(ALL, {}).items() if option not in own}
    lacking = [option for option in shared if not _has(config, option)]
    merged = {**shared, **own}
    return {option: v for option, v in merged.items() if v is not None and option not in lacking}, lacking


def check_costs(space: Space) -> None:
    """Refuse to search how much text a step reads, where the steps follow from what one costs.

    Raises:
        UserError: such a setting is searched.
    """
    for option in space:
        if option.replace(".init_args", "") in TEXT_OF_A_STEP:
            raise UserError(
                f"--space: {option} changes the cost of a step, which is measured once: leave it out, or give a number of "
                "steps, such as --budget 900steps"
            )


def _has(config: Any, option: str) -> bool:
    for part in option.split("."):
        if isinstance(config, Mapping) and part not in config and isinstance(config.get("init_args"), Mapping):
            config = config["init_args"]
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True


def _options(config: Any, name: str = "-") -> list[str]:
    """All options of a configuration, with their dashes."""
    if not isinstance(config, Mapping):
        return [name]
    return [
        found
        for key, value in config.items()
        for found in _options(value, name if key == "init_args" else f"{name}{'-' if name == '-' else '.'}{key}")
    ]
