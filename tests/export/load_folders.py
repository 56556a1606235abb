"""Loads exported folders as somebody without ssl_nlp would, and saves what they compute. Run by `conftest.py`."""

import json
import sys
from pathlib import Path

import onnxruntime
import torch
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer


def with_transformers(folder: Path, texts: list[str]) -> dict:
    config = json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    found = {"input_ids": inputs["input_ids"], "mask": inputs["attention_mask"], "config": config}
    found["decoded"] = tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    found["tokenizer"] = {"max_length": tokenizer.model_max_length, "special": tokenizer.special_tokens_map}
    for auto in [name for name in dir(transformers) if name.startswith("AutoModel")]:
        head = config["architectures"][0].partition("For")
        if auto in ("AutoModel", f"AutoModelFor{head[2]}"):
            model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
            info["missing_keys"] = {key for key in info["missing_keys"] if "pooler" not in key}
            assert not info["missing_keys"] and not info["mismatched_keys"], info
            with torch.no_grad():
                output = model.eval()(**inputs)
            found[auto] = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
    return found


def with_sentence_transformers(folder: Path, texts: list[str]) -> dict:
    model = SentenceTransformer(str(folder), device="cpu")
    vectors = model.encode(texts, batch_size=3)
    return {"vectors": torch.from_numpy(vectors), "max_length": model.max_seq_length, "modules": len(model)}


def with_onnxruntime(folder: Path, texts: list[str]) -> dict:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, truncation=True, return_tensors="np")
    names = [output.name for output in session.get_outputs()]
    return {name: torch.from_numpy(found) for name, found in zip(names, session.run(names, dict(inputs)), strict=True)}


def with_gensim(folder: Path, texts: list[str]) -> dict:
    from gensim.models import KeyedVectors

    model = KeyedVectors.load_word2vec_format(str(folder / "vectors.bin"), binary=True)
    return {"words": model.index_to_key, "vectors": torch.from_numpy(model.vectors)}


LOADERS = {
    "transformers": with_transformers,
    "sentence-transformers": with_sentence_transformers,
    "onnx": with_onnxruntime,
    "word2vec": with_gensim,
}

if __name__ == "__main__":
    sys.modules["ssl_nlp"] = None  # type: ignore[assignment]  # an import of it fails from now on
    output, texts, *folders = sys.argv[1:]
    found = {}
    for folder in map(Path, folders):
        found[folder.name] = LOADERS[folder.name.partition("-")[2]](folder, json.loads(texts))
    torch.save(found, output)
