"""`ssl-nlp` and `python -m ssl_nlp`."""

import errno
import sys

from ssl_nlp import __version__, interrupts
from ssl_nlp.cache import cache_dir
from ssl_nlp.commands.imports import import_code, take_imports
from ssl_nlp.errors import UserError
from ssl_nlp.terminal import say

TRAINER = {
    "fit": "pretrain: ssl-nlp fit --config masked_lm [--config OVERLAY]... [--key value]...",
    "validate": "loss on the validation split: ssl-nlp validate --run NAME",
    "test": "loss on the test split: ssl-nlp test --run NAME",
    "predict": "embeddings of the test split: ssl-nlp predict --run NAME",
}
COMPARE = {
    "evaluate": "frozen embeddings to numbers: ssl-nlp evaluate RUN_OR_CHECKPOINT... [--suite NAME] [--config FILE]",
    "compare": "one table and report: ssl-nlp compare RUN..., or ssl-nlp compare --seeds 3 CONFIG... [-- FIT_ARGUMENTS]",
}
DEMO = {"demo": "five objectives trained, shown at work and compared, in six minutes: ssl-nlp demo [FIT_ARGUMENTS]"}
USE = {
    "embed": "texts to vectors: ssl-nlp embed --checkpoint FILE [--input FILE] --output FILE.npy",
    "generate": "text of a CausalLM or a VAE: ssl-nlp generate --checkpoint FILE [--prompt TEXT]",
    "fill-mask": "fill [MASK] with a MaskedLM: ssl-nlp fill-mask --checkpoint FILE [--text TEXT]",
}


def help_text() -> str:
    """The overview of all commands."""
    lines = ["usage: ssl-nlp COMMAND [options]; ssl-nlp COMMAND --help says more", "", "see what it does:"]
    lines += [f"  {name:<10} {text}" for name, text in DEMO.items()]
    lines += ["", "train (LightningCLI):"]
    lines += [f"  {name:<10} {text}" for name, text in TRAINER.items()]
    lines += ["", "compare:"]
    lines += [f"  {name:<10} {text}" for name, text in COMPARE.items()]
    lines += ["", "use a checkpoint:"]
    lines += [f"  {name:<10} {text}" for name, text in USE.items()]
    lines += ["", "Every command takes --import FILE.py (or a module) first, which defines classes of your own."]
    lines += [f"Caches lie under {cache_dir()}; set SSL_NLP_CACHE to move them."]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A mistake of the user's ends with one line on standard error and exit status 2.

    A signal that asks the process to stop ends it with one line and 128 + its number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        arguments, imports = take_imports(arguments)
        command = arguments[0] if arguments else "--help"
        with interrupts.handled():
            for name in imports:
                import_code(name)
            _run(command, arguments, imports)
    except UserError as error:
        sys.exit(_one_line(str(error), error.status))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        sys.exit(_one_line(f"{str(error.filename)[:60]!r}... is too long for the name of a file: choose another", 2))
    except interrupts.Interrupted as stop:
        sys.exit(_one_line(str(stop), stop.status))


def _run(command: str, arguments: list[str], imports: list[str]) -> None:
    if command in ("-h", "--help"):
        print(help_text())
    elif command == "--version":
        print(__version__)
    elif command in TRAINER:
        from ssl_nlp.commands.fit import run_trainer

        run_trainer(arguments, imports)
    elif command == "evaluate":
        from ssl_nlp.commands.evaluate import evaluate

        evaluate(arguments[1:])
    elif command == "compare":
        from ssl_nlp.commands.compare import compare

        compare(arguments[1:], imports)
    elif command == "demo":
        from ssl_nlp.commands.demo import demo

        demo(arguments[1:])
    elif command in USE:
        from ssl_nlp.commands.use import run_command

        run_command(command, arguments[1:])
    else:
        raise UserError(f"no command {command!r}: use one of {', '.join([*DEMO, *TRAINER, *COMPARE, *USE])}")


def _one_line(message: str, status: int) -> int:
    say(f"ssl-nlp: {' '.join(message.split())}", sys.stderr)
    return status


if __name__ == "__main__":
    main()
