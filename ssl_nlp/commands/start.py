"""The run that a new run starts from, as the configuration names it."""

from typing import Any

from ssl_nlp.encoders import Encoder, PretrainedEncoder, Trained
from ssl_nlp.encoders.start import begin_with_base
from ssl_nlp.encoders.trained import described_encoder
from ssl_nlp.errors import UserError
from ssl_nlp.runs.checkpoint import path_of
from ssl_nlp.runs.run import Run, checkpoint_of


def check_start(model: Any, run: Run) -> None:
    """Check that a new run does not start from itself.

    Args:
        model: its class and arguments.
        run: the new run.

    Raises:
        UserError: it does, or what it starts from does not exist.
    """
    start = _start(model)
    if start is None:
        return
    path, _ = checkpoint_of(start.run)
    if path.absolute().parent.parent.resolve() == run.directory.resolve():
        raise UserError(f"runs/{run.name} cannot start from itself: choose another --run")


def keep_encoder(model: Any, saved: dict[str, Any], where: str) -> None:
    """Let the checkpoint of a run decide on its encoder: the run that it once started from may have changed or be gone.

    It holds all vectors of the token embedding, whatever that began with. Of a published encoder it decides on the language
    modelling head, which older versions made new.

    Args:
        model: class and arguments, which are changed.
        saved: the content of the checkpoint.
        where: its path, for messages.
    """
    start = _start(model)
    if start is not None:
        model.init_args.encoder = described_encoder(saved, where, start.freeze)
        begin_with_base(model.init_args.encoder, saved, where)
    encoder = model.init_args.get("encoder")
    if not isinstance(encoder, Encoder) and encoder is not None and encoder.init_args.get("embedding_from") is not None:
        encoder.init_args.embedding_from = None
    published = _encoder(model, PretrainedEncoder)
    if published is not None:
        described = saved["ssl_nlp"]["method"]["init_args"].get("encoder")
        given = described.get("init_args") if isinstance(described, dict) else None
        published.language_head = given.get("language_head", "own") if isinstance(given, dict) else "own"


def _start(model: Any) -> Any:
    """The arguments of `Trained` in the configuration of a model; None if its encoder is another one."""
    return _encoder(model, Trained)


def _encoder(model: Any, kind: type) -> Any:
    """The arguments of the encoder in the configuration of a model, if it is of this class; None if not."""
    encoder = model.init_args.get("encoder")
    known = not isinstance(encoder, Encoder) and encoder is not None
    return encoder.init_args if known and encoder.class_path == path_of(kind) else None
