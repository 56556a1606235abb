"""The least loss that any model can have on a language that is known, over the very tokens that a method predicts.

Nobody can predict a token better than with its exact probability, given what the method lets its model see: the tokens to
the left, or those around a mask. On average over texts of the language no loss is below that of these probabilities, its
limit. The unigram loss, that of the tokens' frequencies alone, is what a model has that has learned nothing of the order.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.corpora.hidden_markov import UNSEEN, Floats, Ints
from ssl_nlp.data import Tokenizer
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.objectives.predictions import Corruption, Predictions
from ssl_nlp.objectives.scores import Unable


class Limits:
    """The exact probabilities of tokens under a language whose words are the tokens of a tokenizer.

    Args:
        language: which the texts are drawn from.
        tokenizer: one of kind `word`. It must know the words that occur where a limit is asked for.

    Raises:
        Unable: it cuts words into pieces, or frames texts in another way.
    """

    def __init__(self, language: HiddenMarkovLanguage, tokenizer: Tokenizer) -> None:
        self.language, self.model, self.tokenizer = language, language.model, tokenizer
        tokens = [
            ids[len(tokenizer.prefix) : len(ids) - len(tokenizer.suffix)] for ids, _ in tokenizer.encode(language.words)
        ]
        if (len(tokenizer.prefix), len(tokenizer.suffix)) != (1, 0) or any(len(ids) != 1 for ids in tokens):
            raise Unable("a limit needs a token for each word of the language: set data.tokenizer.kind to word")
        self._tokens = np.array(tokens)[:, 0]  # of the words; those that are too rare share the unknown token
        self._words = np.full(tokenizer.vocab_size, UNSEEN)  # of the tokens
        self._words[self._tokens] = np.arange(len(tokens))
        self._words[tokenizer.special_ids] = UNSEEN

    def nats(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """The limit of the loss of each row (B,), and its unigram loss (B,), in nats, summed over its targets; float64.

        Raises:
            Unable: the rows hold a token that is not a word of the language.
        """
        ids, targets, segments = (
            tensor.cpu().numpy()
            for tensor in (predictions.seen.input_ids, predictions.targets, predictions.seen.segment_ids)
        )
        found = np.zeros((2, len(ids)))
        pieces = [*_pieces(segments)]
        inputs = _rows([ids[row, start:stop] for row, start, stop in pieces])
        wanted = _rows([targets[row, start:stop] for row, start, stop in pieces])
        if predictions.corruption is None:
            limits = self._next(inputs, wanted, predictions.context)
        else:
            limits = self._hidden(inputs, wanted, predictions.corruption)
        for total, nats in zip(found, limits, strict=True):
            np.add.at(total, [row for row, _, _ in pieces], nats)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    def _next(self, inputs: Ints, targets: Ints, context: int | None) -> tuple[Floats, Floats]:
        """(N,) limits and unigram losses of documents, or parts of them, (N, T), whose next tokens are the targets.

        That of a model with a short context takes the words before its context as unknown, but not how many there are,
        which tells when the document may end.
        """
        whole = (inputs[:, 0] == self.tokenizer.prefix[0])[:, None]
        # A whole document is its targets; a part of one is its first word, which is not a target, and these. A word that
        # nobody sees before the first one changes nothing, because documents begin as they go on.
        first = np.where(whole, IGNORE_INDEX, inputs[:, :1])
        tokens = np.concatenate([first, targets], axis=1)
        words, ended = self._as_words(tokens), tokens == self.tokenizer.end_id
        is_word = words != UNSEEN
        is_word[:, 0] = False
        # After t words in its row a document goes on or ends.
        t = np.minimum(np.arange(tokens.shape[1])[None] - whole, len(self.language.lengths) - 1).clip(min=0)
        ends = np.where(whole, self.language.ends(whole=True)[t], self.language.ends(whole=False)[t])
        with np.errstate(divide="ignore"):
            length = np.where(ended, np.log(ends), 0.0) + np.where(is_word, np.log1p(-ends), 0.0)
        known = self.model.next_words(words)
        if context is not None and context < words.shape[1] - 1:
            parts = np.lib.stride_tricks.sliding_window_view(words, context + 1, axis=1)  # (N, parts, context + 1)
            last = self.model.next_words(parts.reshape(-1, context + 1))[:, -1].reshape(parts.shape[:2])
            known[:, context:] = last
        limit = np.where(is_word, known, 0.0) + length
        rate = self.language.end_rate
        unigram = np.where(is_word, self.model.unigram[words] + np.log1p(-rate), np.where(ended, np.log(rate), 0.0))
        return -limit.sum(axis=1), -unigram.sum(axis=1)

    def _hidden(self, inputs: Ints, targets: Ints, corruption: Corruption) -> tuple[Floats, Floats]:
        """(N,) limits and unigram losses of documents, or parts of them, (N, T), some of whose tokens are the targets.

        Each token counts as chosen with the same probability, whatever others are. In fact their number is fixed for a
        batch, which tells nothing worth mentioning about one of its documents.
        """
        allowed = corruption.replacements.cpu().numpy()
        random = allowed[self._tokens] / allowed.sum()  # the probability of each word as a random one
        seen, wanted = self._as_words(inputs), self._as_words(targets)
        rate, kept, replaced = corruption.rate, corruption.kept, corruption.replaced
        visible = seen != UNSEEN
        with np.errstate(divide="ignore"):
            same, other = np.log(1 - rate + rate * kept), np.log(rate * replaced * random[seen])
        evidence = np.logaddexp(same + self.model.evidence(seen), other[:, :, None, None])
        evidence = np.where(visible[:, :, None, None], evidence, 0.0)
        posteriors = self.model.word_posteriors(evidence)
        target, shown = (np.take_along_axis(posteriors, each[:, :, None], 2)[:, :, 0] for each in (wanted, seen))
        # What a visible token tells about itself if it is known to be a target.
        with np.errstate(divide="ignore", invalid="ignore"):
            told = np.log(kept * (wanted == seen) + replaced * random[seen]) - np.log(
                kept * np.exp(shown) + replaced * random[seen]
            )
        limit = target + np.where(visible, told, 0.0)
        is_target = wanted != UNSEEN
        unigram = np.where(is_target, self.model.unigram[wanted], 0.0)
        return -np.where(is_target, limit, 0.0).sum(axis=1), -unigram.sum(axis=1)

    def _as_words(self, tokens: Ints) -> Ints:
        """The words of tokens; `UNSEEN` for the end, the mask and where there is none.

        Raises:
            Unable: a token is not one of these.
        """
        words = np.where(tokens == IGNORE_INDEX, UNSEEN, self._words[np.where(tokens == IGNORE_INDEX, 0, tokens)])
        others = {self.tokenizer.end_id, self.tokenizer.mask_id, self.tokenizer.pad_id, IGNORE_INDEX}
        if strange := set(tokens[words == UNSEEN].tolist()) - others:
            token = self.tokenizer.spelling(min(strange))
            raise Unable(
                f"{token} is not a word of {self.language}: raise data.tokenizer.vocab_size, or give it more documents"
            )
        return words


def _pieces(segments: Ints) -> Iterator[tuple[int, int, int]]:
    """Row, start and stop of each document, or part of one, in rows (B, T)."""
    for row, numbers in enumerate(segments):
        for start, stop in pairwise(np.flatnonzero(np.diff(numbers, prepend=0, append=-1)).tolist()):
            if numbers[start] > 0:
                yield row, start, stop


def _rows(parts: list[Ints]) -> Ints:
    """Parts of rows as rows of equal length, filled with `IGNORE_INDEX`."""
    rows = np.full((len(parts), max(map(len, parts))), IGNORE_INDEX)
    for row, part in zip(rows, parts, strict=True):
        row[: len(part)] = part
    return rows
