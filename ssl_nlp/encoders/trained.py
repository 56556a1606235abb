"""The encoder of a run, as the start of another one."""

from functools import partial
from typing import Any, ClassVar

from ssl_nlp.data.tokenizer import Tokenizer
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.base import DecoderStart, Encoder, Frozen, checked_freeze
from ssl_nlp.encoders.start import take_weights
from ssl_nlp.errors import UserError
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.ancestry import ancestor
from ssl_nlp.runs.run import checkpoint_of


class Trained(Encoder):
    """The encoder of a run or checkpoint: its class, size and weights, and the tokenizer, which the data then use.

    Creating one gives an encoder of the class that the checkpoint describes, such as a `Transformer`, which loads the
    weights when it is built. Checkpoints of the new run describe that class: they need neither this one nor, without an
    adapter, the old run.

    Args:
        run: the name of a run in runs/, of which the last checkpoint is taken, or the path of a .ckpt file.
        freeze: which part keeps its weights in training, and has no dropout: `all`, `embeddings`, or a number N for the
            embeddings and the first N layers. null: every part is trained.
        adapter: few parameters that are trained instead of the encoder's own. One that the run has is merged before.
        dropout: the rate of the encoder's dropout layers; null keeps that of the run, which may be 0.
        untrained: take class, size and tokenizer only, and begin with random weights: the baseline of what the run learned.
        decoder: begin with the run's decoder, too, in a `SequenceToSequence` or a method that has one of the same shape.

    Raises:
        UserError: there is no such run or checkpoint, it is broken, or it needs a class that is not loaded; its encoder has
            an adapter that cannot be merged; or it has no decoder to begin with.
    """

    needed_in_checkpoints: ClassVar[tuple[str, ...]] = ("weights",)  # so none can name it, and `run`, a file to read

    def __new__(  # type: ignore[misc]  # as the docstring says
        cls,
        run: str,
        freeze: Frozen | int | None = None,
        adapter: Adapter | None = None,
        dropout: float | None = None,
        untrained: bool = False,
        decoder: bool = False,
    ) -> Encoder:
        path, _ = checkpoint_of(run)
        saved, digest = checkpoints.read_with_digest(path)
        described = saved["ssl_nlp"]
        if dropout is not None and (given := described["method"]["init_args"].get("encoder")) is not None:
            _set_dropout(given, dropout, str(path))
        encoder = described_encoder(saved, str(path), freeze)
        if encoder.adapter is not None and not encoder.adapter.mergeable and not untrained:
            raise UserError(
                f"{path} was trained with {type(encoder.adapter).__name__}, which cannot be merged into the encoder: start "
                "from a run with LoRA, AdaLoRA or IA3, or from the one that it started from"
            )
        encoder.adapter = adapter
        encoder.tokenizer = Tokenizer(described["tokenizer"])
        encoder.tokens = encoder.tokenizer.fingerprint()
        if untrained:
            encoder.ancestry = ()
            return encoder
        encoder.start = partial(take_weights, saved=saved, where=str(path))
        last = ancestor(path, digest, saved)
        if decoder:
            encoder.decoder_start = _saved_decoder(saved, str(path))
            last["decoder"] = True
        encoder.base = {"place": str(path.absolute()), "run": last["run"], "digest": digest}
        encoder.ancestry = (*described.get("ancestry", encoder.ancestry), last)
        return encoder

    def __init__(
        self,
        run: str,
        freeze: Frozen | int | None = None,
        adapter: Adapter | None = None,
        dropout: float | None = None,
        untrained: bool = False,
        decoder: bool = False,
    ) -> None:
        raise UserError("Trained cannot be subclassed: subclass the encoder that the run has")


Trained.__abstractmethods__ = frozenset()  # configurations choose only among complete classes


def described_encoder(saved: dict[str, Any], where: str, freeze: Frozen | int | None) -> Encoder:
    """The encoder that a checkpoint describes, without its weights.

    Args:
        saved: the content of the checkpoint.
        where: its path, for messages.
        freeze: as for `Encoder`.

    Raises:
        UserError: the description is broken, or needs a class that is not loaded.
    """
    method = saved["ssl_nlp"]["method"]
    found = method["init_args"].get("encoder")
    if found is None:
        kind = str(method["class_path"]).rpartition(".")[2]
        raise UserError(f"{where}: its {kind} has no encoder to start from: name another run")
    encoder: Encoder = checkpoints.instantiate(found, Encoder, where=where)  # type: ignore[type-abstract]  # a subclass
    encoder.freeze = checked_freeze(freeze)
    encoder.made_causal = saved["ssl_nlp"].get("causal")
    return encoder


def _saved_decoder(saved: dict[str, Any], where: str) -> DecoderStart:
    """The decoder of a checkpoint.

    Args:
        saved: the content of the checkpoint.
        where: its path, for messages.

    Raises:
        UserError: there is none that reads the states of the encoder.
    """
    named = saved["state_dict"].items()
    weights = {name.removeprefix("decoder."): weight for name, weight in named if name.startswith("decoder.")}
    if not any(".cross_attn." in name for name in weights):
        raise UserError(f"{where} has no decoder that reads the states of its encoder: leave encoder.decoder out")
    return DecoderStart(weights, where)


def _set_dropout(described: Any, rate: float, where: str) -> None:
    """Change the rate of dropout in the description of an encoder.

    Raises:
        UserError: the encoder has none.
    """
    given = described.get("init_args") if isinstance(described, dict) else None
    if not isinstance(given, dict) or "dropout" not in given:
        raise UserError(f"{where}: its encoder has no dropout to set: leave encoder.dropout out")
    given["dropout"] = rate
