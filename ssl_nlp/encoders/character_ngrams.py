"""Vectors of character n-grams, which words of similar spelling share (Bojanowski et al., arXiv:1607.04606).

The n-grams of `where` with 3 to 6 characters are taken from `<where>`: `<wh`, `whe`, `her`, `ere`, `re>`, `<whe`, ... Their
vectors are the rows of a table of fixed size, where the hash FNV-1a of their UTF-8 bytes puts them. N-grams and hashes are
those of fastText's program, which differs from the paper in two details: a mark alone is not an n-gram, and the hash takes
bytes from 128 on as negative numbers, which set all higher bits, too.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

OFFSET_BASIS, PRIME = np.uint32(2166136261), np.uint32(16777619)  # of FNV-1a with 32 bits
WIDEST = 4  # bytes of a character


def ngram_hashes(
    words: Sequence[str], shortest: int, longest: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The hashes of the n-grams of N words, of all words at a time.

    Args:
        words: without the marks; an empty one has no n-grams.
        shortest: characters of the shortest n-grams, the marks `<` and `>` included.
        longest: of the longest.

    Returns:
        hashes: (M,), those of the first word, then those of the second, ...
        sizes: (N,), how many each word has.
    """
    marked = [f"<{word}>" if word else "" for word in words]
    text = np.frombuffer("".join(marked).encode("utf-8", "replace"), dtype=np.uint8)
    starts = np.flatnonzero(text & 0xC0 != 0x80)  # of characters
    widths = np.diff(starts, append=len(text))
    characters = np.array([len(word) for word in marked], dtype=np.int64)
    owner = np.repeat(np.arange(len(marked)), characters)
    left = np.repeat(characters.cumsum(), characters) - np.arange(len(starts))  # from here to the end of the word
    values = text.view(np.int8).astype(np.uint32)
    place, state = np.arange(len(starts)), np.full(len(starts), OFFSET_BASIS)
    found = [(owner[:0], state[:0])]
    for length in range(1, min(longest, characters.max(initial=0)) + 1):  # each n-gram extends a shorter one
        fits = left[place] >= length
        place, state = place[fits], state[fits]
        last = place + length - 1
        for byte in range(WIDEST):
            more = widths[last] > byte
            state[more] = (state[more] ^ values[starts[last[more]] + byte]) * PRIME
        if length >= shortest:
            whole = (length > 1) | ((left[place] > 1) & (left[place] < characters[owner[place]]))  # not a mark alone
            found.append((owner[place][whole], state[whole]))
    owners, hashes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return hashes[owners.argsort(kind="stable")], np.bincount(owners, minlength=len(marked))


class CharacterNGrams(nn.Module):
    """A table of n-gram vectors, and which of them each token has.

    Args:
        spellings: (V,) of the tokens; an empty one has no n-grams.
        dim: width D of the vectors, which begin uniform in [-1 / dim, 1 / dim].
        shortest: characters of the shortest n-grams, the marks included.
        longest: of the longest.
        buckets: rows of the table; n-grams with the same hash modulo this number share a vector.
    """

    rows: Tensor  # (M,) int64, the rows of the n-grams of all tokens, one token after the other
    sizes: Tensor  # (V,) int64, the number of n-grams of each token
    ends: Tensor  # (V,) int64, where those of each token end in `rows`

    def __init__(self, spellings: Sequence[str], dim: int, shortest: int, longest: int, buckets: int) -> None:
        super().__init__()
        self.shortest, self.longest = shortest, longest
        self.table = nn.Embedding(buckets, dim)
        nn.init.uniform_(self.table.weight, -1 / dim, 1 / dim)
        rows, sizes = self._rows(spellings)
        for name, value in {"rows": rows, "sizes": sizes, "ends": sizes.cumsum(0)}.items():
            self.register_buffer(name, value, persistent=False)  # which follow from the spellings

    def spells(self, word: str) -> bool:
        """Whether a word, of one character or more, has n-grams."""
        return len(word) + 2 >= self.shortest

    def forward(self, tokens: Tensor, words: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
        """(N + W, D) and (N + W,): sum and number of the n-gram vectors of each of N tokens, and then of W other words."""
        sizes = self.sizes[tokens]
        shift = (self.ends[tokens] - sizes.cumsum(0)).repeat_interleave(sizes)  # from where a row is put to where it is
        rows = self.rows[shift + torch.arange(len(shift), device=shift.device)]
        if words:
            others = [part.to(rows.device) for part in self._rows(words)]
            rows, sizes = torch.cat([rows, others[0]]), torch.cat([sizes, others[1]])
        starts = sizes.cumsum(0) - sizes
        return F.embedding_bag(rows, self.table.weight, starts, mode="sum", sparse=self.table.sparse), sizes

    def _rows(self, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(M,) and (N,): the rows of the n-grams of N words, and how many each word has."""
        hashes, sizes = ngram_hashes(words, self.shortest, self.longest)
        return torch.from_numpy((hashes % self.table.num_embeddings).astype(np.int64)), torch.from_numpy(sizes)
