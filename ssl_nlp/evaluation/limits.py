"""The least loss that any model can have on a language that is known, over the very tokens that a method predicts.

Nobody can predict a token better than with its exact probability, given what the method lets its model see: the tokens to
the left, or those around a mask. The same holds for the question whether a token was replaced, and for that which text
belongs to another. On average over texts of the language no loss is below that of the exact probabilities, its limit. The
unigram loss, that of frequencies alone, is what a model has that has learned nothing else.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_nlp.corpora import HiddenMarkovLanguage
from ssl_nlp.corpora.hidden_markov import UNSEEN, Floats, Ints, log_sum
from ssl_nlp.data import Tokenizer
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.objectives.predictions import Contrasts, Corruption, Detections, Explained, Unmaskings
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

    def nats(self, explained: Explained) -> tuple[Tensor, Tensor]:
        """The limit of the loss of each row (B,), and its unigram loss (B,), in nats; float64.

        Raises:
            Unable: the rows hold a token that is not a word of the language.
        """
        if isinstance(explained, Unmaskings):
            return self._unmasked(explained)
        if isinstance(explained, Detections):
            return self._detected(explained)
        if isinstance(explained, Contrasts):
            return self._contrasted(explained)
        pieces = Pieces(explained.seen.segment_ids)
        inputs, wanted = pieces.cut(explained.seen.input_ids), pieces.cut(explained.targets)
        if explained.corruption is None:
            return pieces.sums(*self._next(inputs, wanted, explained.context))
        return pieces.sums(*self._hidden(inputs, wanted, explained.corruption))

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

    def _unmasked(self, explained: Unmaskings) -> tuple[Tensor, Tensor]:
        """(B,) limits and unigram losses of rows whose documents, or parts of them, are written into masks.

        On average over orders the exact probabilities of the hidden tokens add up to that of the text. Its length has the
        exact probability, too: of just so many words, or of more where the text is cut off.
        """
        pieces, rate = Pieces(explained.rows.segment_ids), self.language.end_rate
        assert explained.rows.next_ids is not None
        inputs, following = pieces.cut(explained.rows.input_ids), pieces.cut(explained.rows.next_ids)
        words, ended = self._as_words(inputs), (following == self.tokenizer.end_id).any(axis=1)
        number = (words != UNSEEN).sum(axis=1)
        limit = np.zeros(len(words))
        for whole in (False, True):
            ends = self.language.ends(whole)
            with np.errstate(divide="ignore"):
                at_least = np.append(0.0, np.log1p(-ends).cumsum())  # the log-probability of t words or more
                length = np.where(ended, at_least[number] + np.log(ends[number]), at_least[number + 1])
            limit -= np.where((inputs[:, 0] == self.tokenizer.prefix[0]) == whole, length, 0.0)
        for hidden, weights in zip(explained.hidden, explained.weights.double(), strict=True):
            masked = pieces.cut(hidden) == 1
            posteriors = self.model.word_posteriors(self.model.evidence(np.where(masked, UNSEEN, words)))
            log_p = np.take_along_axis(posteriors, words[:, :, None], 2)[:, :, 0]
            limit -= np.where(masked, pieces.cut(weights) * log_p, 0.0).sum(axis=1) / len(explained.hidden)
        each = np.where(words != UNSEEN, self.model.unigram[words] + np.log1p(-rate), 0.0)
        return pieces.sums(limit, -each.sum(axis=1) - np.where(ended, np.log(rate), 0.0))

    def _detected(self, explained: Detections) -> tuple[Tensor, Tensor]:
        """(B,) limits and unigram losses of the examined tokens of rows, scaled to all of their tokens.

        The exact posterior sums over all ways to mask a text. Instead, the mask of every token but the examined one counts
        as known. Who knows more loses less, so no loss is below this limit, and none may reach it. With u the tokens
        that are known not to be masked, y the examined one and `odds` as in `Detections`,

            p(masked | all) / p(not masked | all) = rate * exp(odds) / ((1 - rate) * p(y | u))
            p(replaced | all) = p(masked | all) * (1 - p(y | u)),   because a drawn token may be the original.

        The unigram loss is that of the share of tokens that were replaced in these rows.
        """
        pieces = Pieces(explained.masked.segment_ids)
        words = self._as_words(pieces.cut(explained.masked.input_ids))
        drawn = pieces.cut(explained.drawn)
        as_words = np.where(drawn == IGNORE_INDEX, UNSEEN, self._words[np.maximum(drawn, 0)])
        posteriors = self.model.word_posteriors(self.model.evidence(words))
        # What the generator draws that is not a word of the language has probability 0.
        log_p = np.where(as_words == UNSEEN, -np.inf, np.take_along_axis(posteriors, as_words[:, :, None], 2)[:, :, 0])
        examined, odds = explained.examined.cpu(), explained.odds.cpu().numpy()
        of_text = pieces.join(log_p).gather(1, examined).numpy()
        replaced = explained.replaced.cpu().gather(1, examined).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            masked, unmasked = np.log(explained.rate) + odds, np.log1p(-explained.rate) + of_text
            other = masked + np.log(-np.expm1(of_text))
            same = np.logaddexp(unmasked, masked + of_text)
            limit = np.logaddexp(masked, unmasked) - np.where(replaced, other, same)
            share = float(explained.replaced.sum() / explained.tokens.sum())
            unigram = np.where(replaced, -np.log(share), -np.log1p(-share))
        certain = np.isneginf(odds)  # never masked
        scale = explained.tokens.double().cpu() / examined.shape[1]
        found = (torch.from_numpy(np.where(certain, 0.0, limit)), torch.from_numpy(unigram))
        limits, unigrams = (nats.sum(dim=1) * scale for nats in found)
        return limits, unigrams

    def _contrasted(self, explained: Contrasts) -> tuple[Tensor, Tensor]:
        """(B,) limits of rows of two texts, and the losses of guessing, of both texts together.

        The exact probability that a candidate is the partner of a text is proportional to exp(their shared information)
        (van den Oord et al., arXiv:1807.03748, section 2.3). On average its loss among N candidates is at least
        log N - I(first; second), their equation 8. Candidates are the texts on the other side: those on a text's own
        side, from which a method must tell the partner as well, only add to its loss, but are not independent of these.
        """
        if not self.language.pairs:
            raise Unable("the texts of a pair need the same topic: set data.corpus.pairs to true")
        first, second = (self._as_words(text.input_ids.cpu().numpy()) for text in (explained.first, explained.second))
        excluded = explained.excluded.cpu().numpy()
        shared = np.where(excluded, -np.inf, self.model.shared_information(first, second))
        limit = log_sum(shared, (0,)) + log_sum(shared, (1,)) - 2 * shared.diagonal()
        others = 2 * (~excluded).sum(axis=1) - 1  # of all texts but the text itself
        return torch.from_numpy(limit), torch.from_numpy(2 * np.log(others))

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


class Pieces:
    """The N documents, or parts of them, in rows.

    Args:
        segment_ids: (B, T), those of a `TokenBatch`.
    """

    def __init__(self, segment_ids: Tensor) -> None:
        self._places = [*_places(segment_ids.cpu().numpy())]
        self._rows = torch.tensor([row for row, _, _ in self._places])
        self._shape = segment_ids.shape

    def cut(self, rows: Tensor) -> npt.NDArray[Any]:
        """(N, longest) the pieces of rows (B, T), filled with `IGNORE_INDEX`."""
        array = rows.cpu().numpy()
        longest = max(stop - start for _, start, stop in self._places)
        kind = np.result_type(array.dtype, np.int8)
        found = np.full((len(self._places), longest), IGNORE_INDEX, dtype=kind)
        for piece, (row, start, stop) in zip(found, self._places, strict=True):
            piece[: stop - start] = array[row, start:stop]
        return found

    def join(self, pieces: Floats) -> Tensor:
        """(B, T) the rows of which `pieces` (N, longest) are the pieces, 0 elsewhere."""
        rows = torch.zeros(self._shape, dtype=torch.float64)
        for piece, (row, start, stop) in zip(torch.from_numpy(pieces), self._places, strict=True):
            rows[row, start:stop] = piece[: stop - start]
        return rows

    def sums(self, limit: Floats, unigram: Floats) -> tuple[Tensor, Tensor]:
        """(B,) each: the limits and unigram losses of pieces (N,), summed over those of a row."""
        nothing = torch.zeros(self._shape[0], dtype=torch.float64)
        limits, unigrams = (nothing.index_add(0, self._rows, torch.from_numpy(each)) for each in (limit, unigram))
        return limits, unigrams


def _places(segments: Ints) -> Iterator[tuple[int, int, int]]:
    """Row, start and stop of each document, or part of one, in rows (B, T)."""
    for row, numbers in enumerate(segments):
        for start, stop in pairwise(np.flatnonzero(np.diff(numbers, prepend=0, append=-1)).tolist()):
            if numbers[start] > 0:
                yield row, start, stop
