"""The tokens that a masked language model finds most probable in the gaps of a text."""

from collections.abc import Callable, Sequence

import torch

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.words import word_spans
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.modules.heads import LanguageModelHead

Fillings = list[list[tuple[str, float]]]
"""For each gap of a text, tokens and their probabilities, the most probable first."""


@torch.no_grad()
def fill_masks(method: Method, head: LanguageModelHead, text: str, top_k: int, shift: int = 0) -> Fillings:
    """Fill the masks of a text, each by itself. The mode of the method is restored after.

    Args:
        method: whose states see both sides of a mask.
        head: from its states to tokens.
        text: with `[MASK]` where a token is missing.
        top_k: tokens for each mask.
        shift: how many positions before the mask the state stands that predicts the token.

    Raises:
        UserError: `top_k` is not positive, there is no mask, or the text is too long; or no state precedes a mask.
    """
    if top_k < 1:
        raise UserError(f"top_k must be 1 or more, not {top_k}")
    ids, mask_id = method.tokenizer.encode_with_masks(text), method.tokenizer.mask_id
    assert mask_id is not None
    if len(ids) > method.encoder.max_length:
        raise UserError(
            f"a text of {len(ids)} tokens exceeds the encoder's max_length of {method.encoder.max_length}: shorten it"
        )
    if ids.index(mask_id) < shift:
        raise UserError(f"{text!r} begins with [MASK], which this model predicts from the token before it: add a word")
    inputs = torch.tensor([ids], device=method.device)
    batch = TokenBatch(inputs, torch.ones_like(inputs), packed=False, padded=False, n_tokens=len(ids), causal=False)
    places = (inputs[0] == mask_id).nonzero().squeeze(1)
    with method.evaluating():
        logits = head(method.states(batch)[0, places - shift])[:, : method.vocab_size].float()
    logits[:, ~method.maskable] = -torch.inf
    best = logits.softmax(dim=-1).topk(min(top_k, int(method.maskable.sum())))
    return [
        [(method.tokenizer.token(i), p) for i, p in zip(tokens, probabilities, strict=True)]
        for tokens, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def filled_samples(method: Method, fill_mask: Callable[[str], Fillings], texts: Sequence[str]) -> list[dict[str, str]]:
    """A word in the middle of each text, and the tokens that a model finds most probable in its place.

    Args:
        method: the model.
        fill_mask: its fillings of a text.
        texts: their beginnings are used.
    """
    rows = []
    for text in texts:
        question, hidden = with_gap(text, 1, method.tokenizer, method.encoder.max_length)
        fillings = ", ".join(f"{token.strip()} {probability:.2f}" for token, probability in fill_mask(question)[0])
        rows.append({"text": question, "hidden": hidden, "fillings": fillings})
    return rows


def with_gap(text: str, words: int, tokenizer: Tokenizer, longest: int) -> tuple[str, str]:
    """The beginning of a text with `[MASK]` in the place of words in its middle, and these words.

    Args:
        text: masks of its own are left out.
        words: how many are hidden, if it has so many.
        tokenizer: knows how masks are written.
        longest: tokens that a model reads.
    """
    for mask in ("[MASK]", tokenizer.mask_token or "[MASK]"):
        text = text.replace(mask, "")
    room = max(0, longest - 8)  # leaves room for the frame and the mask; a byte is at most a token
    text = text.encode()[:room].decode(errors="ignore")
    spans = word_spans(text)[:24] or [(0, len(text))]
    first = len(spans) // 2
    start, end = spans[first][0], spans[min(first + words, len(spans)) - 1][1]
    return f"{text[:start]}[MASK]{text[end : spans[-1][1]]}", text[start:end]
