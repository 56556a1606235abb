"""Runs, checkpoints and exported folders as models of other libraries' evaluations."""

import json
from pathlib import Path
from typing import Any

from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM
from ssl_nlp.packages import need
from ssl_nlp.runs.run import checkpoint_of
from ssl_nlp.tasks import Task  # noqa: F401  # a checkpoint may hold one
from ssl_nlp.training.texts import TextModule


def mteb_model(model: str, device: str = "cpu") -> Any:
    """A model for `mteb.evaluate`.

    Args:
        model: a run, a .ckpt file, or a folder of `export --format sentence-transformers`.
        device: that computes, such as `cuda`.

    Raises:
        UserError: there is none, the folder has another format, or the package is missing.
    """
    need("mteb", extra="mteb", what="mteb_model")
    from ssl_nlp.evaluation.mteb import MtebModel

    if (Path(model) / "modules.json").is_file():
        library = need("sentence_transformers", extra="sentence-transformers", what="an exported folder")
        return library.SentenceTransformer(model, device=device)
    path = _checkpoint(model, needed="a model exported with --format sentence-transformers")
    return MtebModel(TextModule.load_from_checkpoint(path).to(device), _name(model, path))


def lm_eval_model(model: str, batch_size: int = 16, device: str = "cpu") -> Any:
    """A model for `lm_eval.simple_evaluate`.

    Args:
        model: a run of `CausalLM`, its .ckpt file, or a folder of `export --format transformers`.
        batch_size: rows at a time.
        device: that computes, such as `cuda`.

    Raises:
        UserError: there is none, it is not a causal language model, the folder has another format, or the package is
            missing.
    """
    need("lm_eval", extra="lm-eval", what="lm_eval_model")
    if _has_causal_head(Path(model) / "config.json"):
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=model, batch_size=batch_size, device=device)
    from ssl_nlp.evaluation.lm_eval import LmEvalModel

    module = TextModule.load_from_checkpoint(
        _checkpoint(model, needed="a CausalLM exported with --format transformers")
    ).to(device)
    if not isinstance(module, CausalLM):
        raise UserError(f"{model} holds a {type(module).__name__}, and lm-eval needs a CausalLM: choose another run")
    return LmEvalModel(module, batch_size)


def _has_causal_head(config: Path) -> bool:
    """Whether a file is the configuration of a causal language model; without its head, a random one would be loaded."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") if config.is_file() else None
    return not {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}.isdisjoint(architectures or [])


def _checkpoint(model: str, needed: str) -> Path:
    """The path of a .ckpt file, or of the checkpoint of a run.

    Args:
        model: the file or the run.
        needed: the folder that would do instead, for the message about one that does not.

    Raises:
        UserError: there is none.
    """
    if (Path(model) / "README.md").is_file():
        raise UserError(
            f"the folder {model} does not hold {needed}: export the run in that format, or name the run itself"
        )
    return checkpoint_of(model)[0]


def _name(model: str, path: Path) -> str:
    return Path(model).name if Path(model).suffix != ".ckpt" else f"{path.absolute().parents[1].name}-{path.stem}"
