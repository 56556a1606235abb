"""`--format sentence-transformers`: a folder for `SentenceTransformer`, whose `encode` is our `embed`."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from ssl_nlp.encoders.pretrained import NO_LIMIT
from ssl_nlp.export.checking import check
from ssl_nlp.export.contents import Contents
from ssl_nlp.export.convert import stock_encoder
from ssl_nlp.export.embedding import embedding_parts
from ssl_nlp.export.tokenizer import save_tokenizer
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.training.texts import TextModule

# Names that all versions of sentence-transformers load.
MODES: dict[Pooling, str] = {"mean": "mean_tokens", "max": "max_tokens", "first": "cls_token", "last": "lasttoken"}
ALL_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
CODE = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{path}")
embeddings = model.encode(["A text.", "Another one."])
print(model.similarity(embeddings, embeddings))"""


def write(module: TextModule, folder: Path, pooling: Pooling | None = None, normalize: bool = False) -> Contents:
    """Write the stock model of the states, and the modules that make an embedding of them.

    Args:
        module: a method or task.
        folder: to write into.
        pooling: of the states; None: the module's own embedding.
        normalize: scale embeddings to length 1, which `embed` does not.

    Raises:
        UserError: `transformers` has no class for the encoder, or the embedding cannot be expressed.
    """
    how, layer = embedding_parts(module, pooling)
    stock = stock_encoder(module)
    check(stock, module)
    stock.model.save_pretrained(folder)
    longest = module.encoder.max_length
    save_tokenizer(module.tokenizer, folder, longest)
    limit = None if longest >= NO_LIMIT else longest
    _write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    _write(folder / "config_sentence_transformers.json", {"prompts": {}, "similarity_fn_name": "cosine"})
    modes = {f"pooling_mode_{mode}": mode == MODES[how] for mode in ALL_MODES}
    steps: list[tuple[str, dict[str, Any] | None]] = [
        ("Transformer", None),
        ("Pooling", {"word_embedding_dimension": module.encoder.dim, **modes, "include_prompt": True}),
    ]
    if layer is not None:
        shape = {"in_features": layer.in_features, "out_features": layer.out_features, "bias": True}
        steps.append(("Dense", shape | {"activation_function": "torch.nn.modules.linear.Identity"}))
    if normalize:
        steps.append(("Normalize", {}))
    modules = []
    for number, (name, settings) in enumerate(steps):
        path = "" if settings is None else f"{number}_{name}"
        kind = f"sentence_transformers.models.{name}"
        modules.append({"idx": number, "name": str(number), "path": path, "type": kind})
        if settings is not None:
            (folder / path).mkdir()
            if settings:
                _write(folder / path / "config.json", settings)
        if name == "Dense" and layer is not None:
            weights = {f"linear.{key}": value.contiguous() for key, value in layer.state_dict().items()}
            save_file(weights, folder / path / "model.safetensors", metadata={"format": "pt"})
    _write(folder / "modules.json", modules)
    width = module.encoder.dim if layer is None else layer.out_features
    summary = (
        f"A `SentenceTransformer` that maps a text to {width} numbers: the {how} state of a "
        f"`{type(stock.model).__name__}`{', a linear layer' * (layer is not None)}{', scaled to length 1' * normalize}."
    )
    return Contents("sentence-transformers", "sentence-similarity", summary, CODE)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
