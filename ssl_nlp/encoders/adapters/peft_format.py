"""Adapters in the format of peft: adapter_config.json and adapter_model.safetensors."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from ssl_nlp.encoders.adapters.base import NAME, LayerAdapter, adapted_layers
from ssl_nlp.encoders.adapters.ia3 import IA3
from ssl_nlp.encoders.adapters.lora import AdaLoRA, LoRA
from ssl_nlp.encoders.adapters.prompt import PromptTuning
from ssl_nlp.errors import UserError
from ssl_nlp.packages import need

if TYPE_CHECKING:
    from peft import PeftConfig

    from ssl_nlp.encoders.base import Encoder

PREFIX = "base_model.model"  # of all names in peft's files


def save_peft(encoder: "Encoder", folder: Path, base: str | None = None) -> None:
    """Write the adapter of an encoder as peft does, for `peft.PeftModel.from_pretrained(model, folder)`.

    `model` is the one of `transformers` (`AutoModel`) with the weights of the encoder without its adapter
    (`without_adapter(encoder)`): that of a `PretrainedEncoder` itself, or `to_transformers()` of a `Transformer`, some of
    whose matrices are fused there; a fused matrix gets the ranks of its parts. AdaLoRA is written as the LoRA it ended as.

    Args:
        encoder: built, with an adapter.
        folder: for the two files.
        base: the name or path of `model`, for adapter_config.json.

    Raises:
        UserError: the encoder has no adapter, or one that the format cannot hold.
    """
    need("peft", extra="peft", what="the format of peft")
    adapter = encoder.adapter
    if isinstance(adapter, LayerAdapter) and adapter.norms_and_biases:
        raise UserError("norms and biases of the base were trained too, which peft's format cannot hold: merge instead")
    if isinstance(adapter, LoRA | AdaLoRA):
        config, weights = _low_rank(encoder, adapter)
    elif isinstance(adapter, IA3):
        config, weights = _scales(encoder, adapter)
    elif isinstance(adapter, PromptTuning):
        config, weights = _prompt(encoder, adapter)
    else:
        raise UserError("this encoder has no adapter that peft knows: train it with encoder.adapter")
    config.base_model_name_or_path = base
    config.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    kept = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    save_file(kept, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _low_rank(encoder: "Encoder", adapter: LoRA | AdaLoRA) -> tuple["PeftConfig", dict[str, Tensor]]:
    from peft import LoraConfig

    if isinstance(adapter, LoRA):
        rank, alpha = adapter.rank, adapter.alpha
        pairs = {
            name: (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)
            for name, layer in adapted_layers(encoder.adapted)
        }
    else:
        rank = adapter.initial_rank
        alpha = adapter.alpha * rank / (rank + 1e-5)  # as peft's layer, which guards against a rank of 0
        pairs = {
            name: (layer.lora_A[NAME] * layer.lora_E[NAME], layer.lora_B[NAME])
            for name, layer in adapted_layers(encoder.adapted)
        }
    weights, ranks = {}, {}
    for name, parts in encoder.stock_parts(list(pairs)).items():
        known = [pairs[part] for part in parts if part in pairs]
        down = torch.cat([pair[0] for pair in known])
        blocks, place = [], 0
        for part in parts:
            up = pairs[part][1] if part in pairs else torch.zeros(_width(encoder, part), 0)
            block = up.new_zeros(len(up), len(down))
            block[:, place : place + up.shape[1]] = encoder.stock_rows(part, up)
            place += up.shape[1]
            blocks.append(block)
        weights[f"{PREFIX}.{name}.lora_A.weight"] = down
        weights[f"{PREFIX}.{name}.lora_B.weight"] = torch.cat(blocks)
        ranks[name] = len(down)
    several = {name: number for name, number in ranks.items() if number != rank}
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=adapter.dropout,
        target_modules=sorted(ranks),
        rank_pattern=several,
        alpha_pattern={name: alpha * number / rank for name, number in several.items()},
        fan_in_fan_out=next(iter(adapted_layers(encoder.adapted)))[1].fan_in_fan_out,
        task_type="FEATURE_EXTRACTION",
    )
    return config, weights


def _width(encoder: "Encoder", name: str) -> int:
    """The number of outputs of a linear map that has no adapter."""
    return len(encoder.adapted.get_parameter(f"{name}.weight"))


def _scales(encoder: "Encoder", adapter: IA3) -> tuple["PeftConfig", dict[str, Tensor]]:
    from peft import IA3Config

    layers = dict(adapted_layers(encoder.adapted))
    inner = {name for name, layer in layers.items() if layer.is_feedforward}
    weights, feedforward = {}, []
    for name, parts in encoder.stock_parts(list(layers)).items():
        if inner.isdisjoint(parts):
            scales = []
            for part in parts:
                scale = layers[part].ia3_l[NAME] if part in layers else torch.ones(_width(encoder, part), 1)
                scales.append(encoder.stock_rows(part, scale))
            weights[f"{PREFIX}.{name}.ia3_l"] = torch.cat(scales)
        else:
            if len(parts) > 1:
                raise UserError(
                    f"{' and '.join(parts)} are one matrix in transformers: their inputs have one scale there"
                )
            weights[f"{PREFIX}.{name}.ia3_l"] = layers[parts[0]].ia3_l[NAME]
            feedforward.append(name)
    names = [name.removeprefix(f"{PREFIX}.").removesuffix(".ia3_l") for name in weights]
    transposed = next(iter(layers.values())).fan_in_fan_out
    config = IA3Config(
        target_modules=names, feedforward_modules=feedforward, fan_in_fan_out=transposed, task_type="FEATURE_EXTRACTION"
    )
    return config, weights


def _prompt(encoder: "Encoder", adapter: PromptTuning) -> tuple["PeftConfig", dict[str, Tensor]]:
    from peft import PromptTuningConfig

    config = PromptTuningConfig(
        num_virtual_tokens=adapter.length,
        token_dim=encoder.embedding.embedding_dim,
        num_transformer_submodules=1,
        num_attention_heads=1,  # not used, but peft looks for it otherwise
        num_layers=1,
        task_type="FEATURE_EXTRACTION",
    )
    return config, {"prompt_embeddings": encoder.prompt.weight}
