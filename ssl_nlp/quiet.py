"""Less on the screen: what libraries say about each other, and what a user can do nothing about."""

import logging
import warnings

WARNINGS = (
    ".*does not have many workers.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*Checkpoint directory.*",
    ".*Experiment logs directory.*",
    ".*callbacks used to create the checkpoint need to be provided.*",  # `validate` has no use for those of `fit`
    ".*WeightAveraging callback with a model that overrides the configure_model.*",
    ".*was deprecated in v4.49.0.*",
    ".*IProgress not found.*",
    "(?s).*JSONARGPARSE_DEPRECATION_WARNINGS.*",
)


def quiet() -> None:
    """Ignore warnings that are meant to be so, and Lightning's remarks, for the rest of the process."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message)
    import lightning.pytorch  # noqa: F401  # which sets its level itself when it is first imported

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
