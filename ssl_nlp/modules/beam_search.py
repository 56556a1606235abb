"""Beam search: an approximate search, with a few candidates, for the most probable continuation of each row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_nlp.errors import refuse
from ssl_nlp.modules.generation import Continuation


@dataclass
class BeamSearch:
    """Settings of the search for outputs: its width, how it ranks candidates, and how long they may become."""

    beams: int = 4
    """Unfinished candidates that are kept for each text. 1: greedy decoding."""
    length_penalty: float = 0.6
    """Exponent alpha of GNMT's length penalty (arXiv:1609.08144, equation 14): candidates compete by log p / lp, with
    lp = ((5 + tokens) / 6) ^ alpha, the end token counted. 0: by their probability alone, which favours short ones."""
    max_new_tokens: int = 256
    """The longest output in tokens."""
    source_ratio: float = 1.5
    """The longest output of a source of n tokens, if that is less: `source_ratio` n + 10 tokens."""
    no_repeat_ngram: int = 0
    """Forbid outputs that contain the same n tokens in a row twice; 0: allow them."""

    def __post_init__(self) -> None:
        problems = {
            f"beams must be 1 or more, not {self.beams}": self.beams < 1,
            f"length_penalty must be 0 or more, not {self.length_penalty}": not 0 <= self.length_penalty < math.inf,
            f"max_new_tokens must be 1 or more, not {self.max_new_tokens}": self.max_new_tokens < 1,
            f"source_ratio must be 0 or more, not {self.source_ratio}": not 0 <= self.source_ratio < math.inf,
            f"no_repeat_ngram must be 0 or more, not {self.no_repeat_ngram}": self.no_repeat_ngram < 0,
        }
        refuse(problems, "search")

    def longest(self, source_tokens: int) -> int:
        """The longest output in tokens, the end token not counted. It depends on the source alone, not on its batch."""
        return min(self.max_new_tokens, math.ceil(self.source_ratio * source_tokens) + 10)

    def search(self, rows: Continuation, longest: Sequence[int]) -> list[list[int]]:
        """The best continuation found for each row, without its end token; the arguments are those of `scored`."""
        return [tokens for tokens, _ in self.scored(rows, longest)]

    @torch.no_grad()
    def scored(self, rows: Continuation, longest: Sequence[int]) -> list[tuple[list[int], float]]:
        """The best continuation found for each row, without its end token, and its log p, the end token included.

        Each step keeps the best `beams` candidates. A candidate that ends is finished, and the row goes on with one beam
        fewer (Sutskever et al., arXiv:1409.3215, section 3.2), until no beam is left, or no unfinished candidate can still
        beat the best finished one. With one beam this is greedy decoding; with enough beams it is exhaustive search.

        Args:
            rows: B of them, which allow as many steps as the largest of `longest`.
            longest: for each row, the most tokens of its continuation before the end token.
        """
        end, beams = rows.tokenizer.end_id, self.beams
        best: list[tuple[float, list[int], float]] = [(-math.inf, [], -math.inf)] * len(longest)
        index = list(range(len(longest)))  # of the rows that are not done
        not_end = torch.arange(rows.tokenizer.vocab_size, device=rows.device) != end
        scores = torch.zeros(len(longest), 1, device=rows.device)  # (rows, candidates): their log p
        places = torch.full((len(longest),), beams, device=rows.device)  # (rows,): for candidates that go on
        tokens = torch.zeros(len(longest), 1, 0, dtype=torch.int64, device=rows.device)  # (rows, candidates, length)
        for length in range(max(longest) + 1):
            log_p = rows.logits().log_softmax(dim=-1).view(len(index), -1, rows.tokenizer.vocab_size)
            self._forbid_repeats(log_p, tokens)
            at_limit = torch.tensor([longest[row] == length for row in index], device=log_p.device)
            log_p.masked_fill_(at_limit[:, None, None] & not_end, -math.inf)
            totals = (scores[..., None] + log_p).flatten(1)
            # Of twice as many, at least `beams` do not end; with a tiny vocabulary there may be fewer.
            totals, place = totals.topk(min(2 * beams, totals.shape[1]))
            beam, token = place // log_p.shape[-1], place % log_p.shape[-1]
            is_end, rank = token == end, torch.arange(totals.shape[1], device=rows.device)
            ended = is_end & totals.isfinite() & (rank < places[:, None])
            places -= ended.sum(dim=1)
            for number, candidate in ended.nonzero().tolist():
                row, total = index[number], float(totals[number, candidate])
                if (score := total / self._penalty(length + 1)) > best[row][0]:
                    best[row] = score, tokens[number, beam[number, candidate]].tolist(), total
            scores, order = totals.masked_fill(is_end, -math.inf).topk(min(beams, totals.shape[1]))
            scores = scores.masked_fill(rank[: scores.shape[1]] >= places[:, None], -math.inf)
            beam, token = beam.gather(1, order), token.gather(1, order)
            hopes = scores[:, 0].tolist()
            going_on = [
                number
                for number, (row, hope) in enumerate(zip(index, hopes, strict=True))
                if hope / self._penalty(longest[row] + 1) > best[row][0]
            ]
            if not going_on:
                break
            kept = torch.tensor(going_on, device=beam.device)
            scores, beam, token, places = scores[kept], beam[kept], token[kept], places[kept]
            tokens = torch.cat([tokens[kept[:, None], beam], token[..., None]], dim=2)
            rows.select((kept[:, None] * log_p.shape[1] + beam).flatten(), kept if len(kept) < len(index) else None)
            rows.append(token.flatten())
            index = [index[number] for number in going_on]
        return [(continuation, total) for _, continuation, total in best]

    def _penalty(self, tokens: int) -> float:
        return float(((5 + tokens) / 6) ** self.length_penalty)

    def _forbid_repeats(self, log_p: Tensor, tokens: Tensor) -> None:
        """Set the log p of each token to -inf that would repeat an n-gram of its candidate (rows, beams, length)."""
        size, length = self.no_repeat_ngram, tokens.shape[2]
        if size == 0 or length < size:
            return
        grams = tokens.unfold(2, size, 1)  # (rows, beams, length - size + 1, size)
        begun = tokens[:, :, None, length - size + 1 :]
        repeats = (grams[..., :-1] == begun).all(dim=-1).to(log_p.dtype)
        log_p.masked_fill_(torch.zeros_like(log_p).scatter_add_(2, grams[..., -1], repeats) > 0, -math.inf)
