"""`ssl-nlp` and `python -m ssl_nlp`: the table of all commands, and how they end."""

import errno
import os
import sys
from importlib import import_module
from typing import NamedTuple

from ssl_nlp import __version__, interrupts
from ssl_nlp.cache import cache_dir
from ssl_nlp.commands.imports import import_code, take_imports
from ssl_nlp.errors import UserError
from ssl_nlp.quiet import no_bars_in_files
from ssl_nlp.terminal import say


class Command(NamedTuple):
    """A command.

    Attributes:
        function: where it is in `ssl_nlp.commands`, as MODULE.FUNCTION, imported only when it is wanted. It takes the
            arguments after the command and the values of `--import`.
        section: the heading in the overview.
        help: its line there, what it does and an example.
    """

    function: str
    section: str
    help: str


SEE, TRAIN, COMPARE, USE = "see what it does", "train", "compare", "use a checkpoint"
COMMANDS = {
    "demo": Command(
        "demo.demo",
        SEE,
        "train five methods, show what they do, compare them; ten minutes: ssl-nlp demo [FIT_ARGUMENTS]",
    ),
    "fit": Command(
        "fit.fit", TRAIN, "train a run: ssl-nlp fit --config masked_lm [--config OVERLAY]... [--key value]..."
    ),
    "validate": Command(
        "validate.validate", TRAIN, "losses and metrics on the validation split: ssl-nlp validate --run NAME"
    ),
    "test": Command("validate.test", TRAIN, "losses and metrics on the test split: ssl-nlp test --run NAME"),
    "predict": Command(
        "validate.predict",
        TRAIN,
        "embeddings of the test split, or predictions of a task: ssl-nlp predict --run NAME [--input FILE]",
    ),
    "evaluate": Command(
        "evaluate.evaluate",
        COMPARE,
        "score frozen embeddings: ssl-nlp evaluate RUN_OR_CHECKPOINT... [--suite NAME] [--config FILE]",
    ),
    "compare": Command(
        "compare.compare",
        COMPARE,
        "one table and report: ssl-nlp compare RUN..., or ssl-nlp compare --seeds 3 CONFIG... [-- FIT_ARGUMENTS]",
    ),
    "tune": Command(
        "tune.tune",
        COMPARE,
        "the best settings of each method, with equal effort: ssl-nlp tune CONFIG... --trials 20 --budget 900steps",
    ),
    "embed": Command(
        "embed.main", USE, "texts to vectors: ssl-nlp embed --checkpoint FILE [--input FILE] --output FILE.npy"
    ),
    "generate": Command(
        "generate.main",
        USE,
        "text from a model that draws or continues it: ssl-nlp generate --checkpoint FILE [--prompt TEXT]",
    ),
    "score": Command(
        "score.main", USE, "how likely texts are, a line each: ssl-nlp score --checkpoint FILE [--input FILE]"
    ),
    "export": Command(
        "export.export",
        USE,
        "a folder for other libraries: ssl-nlp export RUN --format transformers [--output FOLDER]",
    ),
    "fill-mask": Command(
        "fill_mask.main", USE, "fill [MASK] in a text: ssl-nlp fill-mask --checkpoint FILE [--text TEXT]"
    ),
}


OUT_OF_MEMORY = (
    "use smaller batches (fit: --data.batch_size, with --trainer.accumulate_grad_batches to keep the rows per step; embed: "
    "--batch_size) or a smaller encoder, wait until other processes free the GPU, or set CUDA_VISIBLE_DEVICES= to compute "
    "on the CPU"
)


def help_text() -> str:
    """The overview of all commands."""
    lines = ["usage: ssl-nlp COMMAND [options]; ssl-nlp COMMAND --help says more"]
    for section in dict.fromkeys(command.section for command in COMMANDS.values()):
        lines += ["", f"{section}:"]
        lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items() if command.section == section]
    lines += ["", "Every command also takes --import FILE.py (or a module), which defines classes of your own."]
    lines += [f"Caches are in {cache_dir()}; set SSL_NLP_CACHE to move them."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A mistake of the user's ends it with one line on standard error and exit status 2.

    A signal that asks the process to stop ends it with one line and 128 + its number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    no_bars_in_files()
    try:
        arguments, imports = take_imports(arguments)
        name, *rest = arguments or ["--help"]
        with interrupts.handled():
            for code in imports:
                import_code(code)
            _run(name, rest, imports)
    except UserError as error:
        sys.exit(_one_line(str(error), error.status))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        sys.exit(_one_line(f"{str(error.filename)[:60]!r}... is too long for a file name: choose a shorter one", 2))
    except interrupts.Interrupted as stop:
        first = (
            os.environ.get("LOCAL_RANK", "0") == "0"
        )  # all processes of a training get the signal; one line is enough
        sys.exit(_one_line(str(stop), stop.status) if first else stop.status)
    except RuntimeError as error:
        # These are torch's, which need not have been imported; the second comes from a GPU that others have filled.
        if type(error).__name__ not in ("OutOfMemoryError", "AcceleratorError") or "out of memory" not in str(error):
            raise
        sys.exit(_one_line(f"{str(error).splitlines()[0].partition('. ')[0]}: {OUT_OF_MEMORY}", 1))


def _run(name: str, arguments: list[str], imports: list[str]) -> None:
    if name in ("-h", "--help"):
        print(help_text())
    elif name == "--version":
        print(__version__)
    elif name in COMMANDS:
        module, _, function = COMMANDS[name].function.partition(".")
        getattr(import_module(f"ssl_nlp.commands.{module}"), function)(arguments, imports)
    else:
        raise UserError(f"there is no command {name!r}: use one of {', '.join(COMMANDS)}")


def _one_line(message: str, status: int) -> int:
    say(f"ssl-nlp: {' '.join(message.split())}", sys.stderr)
    return status


if __name__ == "__main__":
    main()
