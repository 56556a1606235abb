"""The 5-gram beside language models: counted on the training text of a run, in the run's own tokens."""

import contextlib
import io
import sys
from functools import partial

import numpy as np

from ssl_nlp.commands.lightning_cli import run_cli
from ssl_nlp.commands.trainer_settings import lightning_errors
from ssl_nlp.commands.validate import RunCli, with_run
from ssl_nlp.data import TextDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.methods import NGramLM
from ssl_nlp.objectives.scores import Unable
from ssl_nlp.runs.run import Run

ORDER = 5
NAME = f"{ORDER}-gram"
MOST_TOKENS = 20_000_000  # half a minute and 5 GiB


class Reading(RunCli):
    """Opens the data of a run, and neither trains nor tests."""

    def _set_seed(self) -> None:
        """Do nothing: the command that reads the data keeps its own random state."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""


def training_data(run: Run | None) -> TextDataModule:
    """The data that a run was trained on, with its tokenizer.

    Raises:
        Unable: its training text is not known, not there any more, a stream, or too long to be counted here.
    """
    if run is None or not run.config.exists():
        raise Unable("its training text is not known")
    before = sys.argv
    try:
        with lightning_errors(), contextlib.redirect_stdout(io.StringIO()):
            data = run_cli(Reading, "validate", ["--run", run.name], (), partial(with_run, "validate")).datamodule
        assert isinstance(data, TextDataModule)
        if getattr(data.corpus, "streaming", False):
            raise Unable("its training text is a stream, which cannot be read again")
        tokens = data.store("train").statistics.tokens
    except (UserError, OSError) as error:
        raise Unable(f"its training text cannot be read: {error}") from error
    finally:
        sys.argv = before
    if tokens > MOST_TOKENS:
        raise Unable(f"its training text has {tokens:,} tokens, and this baseline counts at most {MOST_TOKENS:,}")
    return data


def counted(data: TextDataModule) -> NGramLM:
    """The n-gram model of a training split: of each document, from its start token to the one that ends it."""
    store, end = data.store("train"), [] if data.tokenizer.suffix else [data.tokenizer.end_id]
    model = NGramLM(ORDER)
    model.connect(data.tokenizer)
    model.count(np.append(store.row(number).ids, end) for number in range(len(store.starts) - 1))
    return model.eval()
