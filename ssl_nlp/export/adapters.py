"""Runs, checkpoints and exported folders as models of other libraries' evaluations."""

from pathlib import Path
from typing import Any

from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM
from ssl_nlp.packages import need
from ssl_nlp.runs.run import checkpoint_of
from ssl_nlp.tasks import Task  # noqa: F401  # a checkpoint may hold one
from ssl_nlp.training.texts import TextModule


def mteb_model(model: str) -> Any:
    """A model for `mteb.evaluate`.

    Args:
        model: a run, a .ckpt file, or a folder of `export --format sentence-transformers`.

    Raises:
        UserError: there is none, or the package is missing.
    """
    need("mteb", extra="mteb", what="mteb_model")
    from ssl_nlp.evaluation.mteb import MtebModel

    if (Path(model) / "modules.json").is_file():
        library = need("sentence_transformers", extra="sentence-transformers", what="an exported folder")
        return library.SentenceTransformer(model, device="cpu")
    path, _ = checkpoint_of(model)
    return MtebModel(TextModule.load_from_checkpoint(path), _name(model, path))


def lm_eval_model(model: str, batch_size: int = 16) -> Any:
    """A model for `lm_eval.simple_evaluate`.

    Args:
        model: a run of `CausalLM`, its .ckpt file, or a folder of `export --format transformers`.
        batch_size: rows at a time.

    Raises:
        UserError: there is none, it is not a causal language model, or the package is missing.
    """
    need("lm_eval", extra="lm-eval", what="lm_eval_model")
    if (Path(model) / "config.json").is_file():
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=model, batch_size=batch_size, device="cpu")
    from ssl_nlp.evaluation.lm_eval import LmEvalModel

    path, _ = checkpoint_of(model)
    module = TextModule.load_from_checkpoint(path)
    if not isinstance(module, CausalLM):
        raise UserError(f"{model} holds a {type(module).__name__}, and lm-eval needs a CausalLM: choose another run")
    return LmEvalModel(module, batch_size)


def _name(model: str, path: Path) -> str:
    return Path(model).name if Path(model).suffix != ".ckpt" else f"{path.absolute().parents[1].name}-{path.stem}"
