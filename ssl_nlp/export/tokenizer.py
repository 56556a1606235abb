"""A `Tokenizer` as the tokenizer of `transformers`, which `AutoTokenizer` loads from a folder."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import processors

from ssl_nlp.data import Tokenizer


def save_tokenizer(
    tokenizer: Tokenizer, folder: Path, max_length: int, reads_special: bool = False, parts: bool = False
) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, which give the same ids for a text, its frame included.

    Args:
        tokenizer: the one to write.
        folder: to write into.
        max_length: `model_max_length`, tokens of the longest row.
        reads_special: whether a special token that is written in a text, such as `<mask>`, is read as that token. If
            not, it is text like any other, as in this package.
        parts: whether `token_type_ids` tell the two texts of a pair apart.
    """
    from transformers import PreTrainedTokenizerFast

    roles = json.loads(tokenizer.serialize())
    backend = _framed(tokenizer, _stripping(json.loads(roles["tokenizer"]), tokenizer, roles["characters"]), parts)
    first = tokenizer.prefix[0] if tokenizer.prefix else None
    ids = {
        "pad_token": tokenizer.pad_id, "unk_token": roles["unk"], "bos_token": first, "cls_token": first,
        "eos_token": tokenizer.end_id, "sep_token": tokenizer.end_id,
    }  # fmt: skip
    special: dict[str, Any] = {role: backend.id_to_token(number) for role, number in ids.items() if number is not None}
    if tokenizer.mask_token is not None:
        special["mask_token"] = tokenizer.mask_token
    stock = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        split_special_tokens=not reads_special,
        padding_side="right",
        truncation_side="right",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", *["token_type_ids"] * parts, "attention_mask"],
        **special,
    )
    stock.save_pretrained(folder)


def tokenizer_notes(tokenizer: Tokenizer) -> list[str]:
    """Sentences about texts that the written tokenizer encodes in another way."""
    if not tokenizer.whole_words:
        return []
    return [
        "Words are cut by a regular expression, which knows no dictionary: a sentence without spaces, such as a Chinese "
        "one, is a single word, other than in the run."
    ]


def _stripping(backend: dict[str, Any], tokenizer: Tokenizer, characters: bool) -> tokenizers.Tokenizer:
    """The backend with a mask that takes the space before it, as `encode_with_masks` does, unless tokens are characters."""
    for token in backend["added_tokens"]:
        if token["id"] == tokenizer.mask_id:
            token["lstrip"] = not characters
    return tokenizers.Tokenizer.from_str(json.dumps(backend))


def _framed(tokenizer: Tokenizer, backend: tokenizers.Tokenizer, parts: bool) -> tokenizers.Tokenizer:
    """The backend with a post-processor that frames texts as `tokenizer` does, and pairs as `join_pairs`, if need be."""
    backend.no_padding()
    backend.no_truncation()
    one = tokenizer.encode(["a"])[0][0]
    two = one + one[len(tokenizer.prefix) if tokenizer.suffix else 0 :]
    if parts or (backend.encode("a").ids, backend.encode("a", "a").ids) != (one, two):
        frame = {number: backend.id_to_token(number) for number in tokenizer.prefix + tokenizer.suffix}
        before, after = ([frame[number] for number in part] for part in (tokenizer.prefix, tokenizer.suffix))
        first, second = [*before, "$A", *after], [*([] if after else before), "$B", *after]
        backend.post_processor = processors.TemplateProcessing(
            single=first,
            pair=[f"{piece}:0" for piece in first] + [f"{piece}:{int(parts)}" for piece in second],
            special_tokens=[(token, number) for number, token in frame.items()],
        )
    return backend
