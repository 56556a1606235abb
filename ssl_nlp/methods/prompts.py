"""The words that may fill the gap of a prompt, scored by a language model.

A word is tokenized where it stands: the whole text is encoded once for each word, and the tokens that reach into the word
are its own. Where a token spans the border (scripts without blanks, merges across it), scoring begins where the rows of the
words begin to differ, so that the scores of all words are conditioned on the same tokens.

A causal model scores the word and the text after it, given the text before it. A masked model sees both sides; a word of
several tokens gets as many masks, which are filled from left to right, each token given those before it: the
pseudo-log-likelihood of Kauf & Ivanova (arXiv:2305.10588) within the word. Masking one token at a time (arXiv:1910.14659)
would favour words whose tokens give each other away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from ssl_nlp.data import Tokenizer
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.queries import Query, masked, query_nats
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.objectives.scores import Prompt, Unable, WordScores

CHUNK = 128  # prompts whose rows are sorted by length together


@dataclass(frozen=True)
class Filled:
    """A prompt as token rows, one for each of its words.

    Attributes:
        rows: W lists of token ids, which share their first `start` and their last `end` tokens.
        start: the place of the first token that is scored.
        end: the number of tokens after the word.
        examples_cut, tokens_cut: as in `WordScores`.
    """

    rows: list[list[int]]
    start: int
    end: int
    examples_cut: int = 0
    tokens_cut: int = 0


def fill(tokenizer: Tokenizer, prompt: Prompt, longest: int, causal: bool) -> Filled:
    """The rows of a prompt for an encoder that reads `longest` tokens. Examples are cut before the prompt itself.

    Args:
        causal: leave out the suffix of a text, and let a row have one more token, which is predicted and not read.

    Raises:
        Unable: the tokenizer cannot write a word, or writes two with the same tokens, or there is no room for them.
    """
    room, kept = longest + causal, len(prompt.examples)
    found = _fill(tokenizer, prompt, kept, causal)
    if kept and max(map(len, found.rows)) > room:
        frame = len(tokenizer.prefix) + len(tokenizer.suffix)
        left = room - max(map(len, _fill(tokenizer, prompt, 0, causal).rows))
        sizes = [len(ids) - frame for ids, _ in tokenizer.encode(list(prompt.examples))]
        kept = sum(size <= left for size in accumulate(reversed(sizes)))
        found = _fill(tokenizer, prompt, kept, causal)
        while kept and max(map(len, found.rows)) > room:  # a border between examples may cost a token
            kept -= 1
            found = _fill(tokenizer, prompt, kept, causal)
    return _shorten(found, room, len(tokenizer.prefix), 0 if causal else len(tokenizer.suffix))


def _fill(tokenizer: Tokenizer, prompt: Prompt, kept: int, causal: bool) -> Filled:
    before = "".join(prompt.examples[len(prompt.examples) - kept :]) + prompt.before
    rows: list[list[int]] = []
    starts, ends = [], []
    encoded = tokenizer.encode_with_offsets([before + word + prompt.after for word in prompt.words])
    for word, (ids, _, places) in zip(prompt.words, encoded, strict=True):
        size = len(ids) - (len(tokenizer.suffix) if causal else 0)
        stop = len(before) + len(word)
        inside = [n for n, place in enumerate(places) if place and place[1] > len(before) and place[0] < stop]
        if not inside:
            raise Unable(f"its tokenizer has no token for the label word {word!r}")
        if ids[:size] in rows:
            other = prompt.words[rows.index(ids[:size])]
            raise Unable(f"its tokenizer writes the label words {other!r} and {word!r} with the same tokens")
        rows.append(ids[:size])
        starts.append(inside[0])
        ends.append(size - 1 - inside[-1])
    start, end = min(*starts, _shared(rows)), min(*ends, _shared([row[::-1] for row in rows]))
    if causal and start == 0:
        raise Unable("its tokenizer has no token that begins a text, and the prompt has no text before the gap")
    return Filled(rows, start, end, len(prompt.examples) - kept)


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """The number of tokens with which all rows begin."""
    shared = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared


def _shorten(found: Filled, room: int, prefix: int, suffix: int) -> Filled:
    """Leave out tokens from the outer end of the longer text around the gap; the same ones for all words."""
    over = max(map(len, found.rows)) - room
    if over <= 0:
        return found
    before, after = found.start - prefix, found.end - suffix
    if over > before + after:
        raise Unable(f"its encoder, which reads {room} tokens, has no room for the label words")
    left = min(over, before) if before >= after else max(0, over - after)
    right = over - left
    rows = [
        [*row[:prefix], *row[prefix + left : len(row) - suffix - right], *row[len(row) - suffix :]]
        for row in found.rows
    ]
    return Filled(rows, found.start - left, found.end - right, found.examples_cut, over)


@torch.no_grad()
def score_words(
    method: Method, head: LanguageModelHead, prompts: Sequence[Prompt], batch_size: int, causal: bool
) -> WordScores:
    """Score the words of prompts with a language model. Its mode is restored after.

    Args:
        method: a language model, with its tokenizer.
        head: from its hidden states to tokens.
        prompts: N of them, each with W words.
        batch_size: rows that are computed together. Words of one token after the same text share a row.
        causal: whether the model sees the text before the gap, or that on both sides of it.

    Raises:
        Unable: as `fill`.
    """
    shape = (len(prompts), len(prompts[0].words) if prompts else 0)
    nats = torch.zeros(shape, dtype=torch.float64)
    tokens, sizes, cut = (torch.zeros(*shape[:-1], n, dtype=torch.int64) for n in (shape[1], shape[1], 2))
    with method.evaluating():
        for first in range(0, len(prompts), CHUNK):
            queries: list[Query] = []
            owners: list[tuple[int, int]] = []
            for number, prompt in enumerate(prompts[first : first + CHUNK], first):
                filled = fill(method.tokenizer, prompt, method.encoder.max_length, causal)
                cut[number] = torch.tensor([filled.examples_cut, filled.tokens_cut])
                for word, (text, row) in enumerate(zip(prompt.words, filled.rows, strict=True)):
                    asked = _queries(method, row, filled, causal)
                    queries += asked
                    owners += [(number, word)] * len(asked)
                    tokens[number, word] = len(asked)
                    sizes[number, word] = len((text + prompt.after if causal else text).encode())
            found = query_nats(method, head, queries, batch_size, causal)
            nats.index_put_(tuple(torch.tensor(owners, dtype=torch.int64).view(-1, 2).T), -found, accumulate=True)
    return WordScores("likelihood" if causal else "pseudo-likelihood", nats, tokens, sizes, cut[:, 0], cut[:, 1])


def _queries(method: Method, row: list[int], filled: Filled, causal: bool) -> list[Query]:
    """Each token of a word given those before it and, unless the model is causal, the text after the word."""
    if causal:
        seen = tuple(row[:-1])
        return [Query(seen, place - 1, row[place]) for place in range(filled.start, len(row))]
    assert method.tokenizer.mask_id is not None
    stop = len(row) - filled.end
    return [masked(row, place, stop, method.tokenizer.mask_id) for place in range(filled.start, stop)]
