"""The configurations that ship with the package, by name: `masked_lm`, `trainer/demo`."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ssl_nlp.commands.complaints import LIKE
from ssl_nlp.errors import UserError

_IN_CHECKOUT = Path(__file__).parents[2] / "configs"
CONFIGS = _IN_CHECKOUT if _IN_CHECKOUT.is_dir() else Path(__file__).parents[1] / "configs"  # the latter in a wheel


def find_config(name: str) -> str:
    """The path of a YAML file: `name` where that is a file, else the shipped configuration of this name.

    YAML itself, as in `--config '{seed_everything: 1}'`, is left as it is.

    Raises:
        UserError: neither exists.
    """
    if "{" in name or "\n" in name or Path(name).is_file():
        return name
    shipped = CONFIGS / (name if name.endswith(".yaml") else f"{name}.yaml")
    if shipped.is_file() and shipped.resolve().is_relative_to(CONFIGS.resolve()):
        return str(shipped)
    names = config_names()
    meant = get_close_matches(name.removesuffix(".yaml"), names, n=1, cutoff=LIKE)
    hint = (
        f"did you mean {meant[0]}?"
        if meant
        else f"name a file or one of {', '.join(n for n in names if '/' not in n)}."
    )
    said = f"there is no file {name}, and no shipped configuration of this name: {hint}"
    raise UserError(f"{said} ssl-nlp fit --help lists all of them")


def config_names() -> list[str]:
    """The names of all shipped configurations, those of whole runs first."""
    paths = sorted(CONFIGS.rglob("*.yaml"), key=lambda path: (len(path.relative_to(CONFIGS).parts), path))
    return [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in paths]


def with_paths(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command in which every `--config`, or `-c` for short, names a file.

    Raises:
        UserError: there is no such configuration.
    """
    found = ["--config" if argument == "-c" else argument for argument in arguments]
    for place, argument in enumerate(found):
        if argument.startswith("--config="):
            found[place] = f"--config={find_config(argument.removeprefix('--config='))}"
        elif place and found[place - 1] == "--config":
            found[place] = find_config(argument)
    return found
