"""Silence for warnings that a user cannot act on, such as those of libraries about each other."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

WARNINGS = (
    ".*does not have many workers.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*Checkpoint directory.*",
    ".*Experiment logs directory.*",
    ".*callbacks used to create the checkpoint need to be provided.*",  # `validate` has no use for those of `fit`
    ".*WeightAveraging callback with a model that overrides the configure_model.*",
    "Found .* module.s. in eval mode at the start of training.*",  # frozen ones stay so, and no others
    ".*was deprecated in v4.49.0.*",
    ".*IProgress not found.*",
    ".*smaller than the logging interval.*",
    ".*sync_dist=True.*",  # what we log is that of all ranks already
    "(?s).*JSONARGPARSE_DEPRECATION_WARNINGS.*",
)


def quiet() -> None:
    """Silence expected warnings and Lightning's tips for the rest of the process."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message)
    import lightning.pytorch  # noqa: F401  # its first import sets the level

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def no_bars_in_files() -> None:
    """Switch off the progress bars of libraries where standard error is not a terminal, in this process and its children.

    All of them use tqdm, which reads this when it is first imported. A bar that the user has asked for is left alone.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")


@contextmanager
def progress_bars_hidden() -> Iterator[None]:
    """Hide the progress bars of `transformers` while the block runs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
