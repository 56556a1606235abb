"""The vectors that a token embedding begins with: those of a run, or of a file of word vectors."""

from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from ssl_nlp.data import Tokenizer
from ssl_nlp.encoders import Encoder, Trained
from ssl_nlp.encoders.vector_files import read_vectors
from ssl_nlp.errors import UserError
from ssl_nlp.runs.ancestry import Ancestor, published, spoken
from ssl_nlp.runs.checkpoint import digest

FILES = (".bin", ".txt", ".vec")


def begin_with_vectors(encoder: Encoder, tokenizer: Tokenizer, name: str) -> str:
    """Fill the token embedding of a new encoder with the vectors of words that single tokens stand for.

    All other tokens keep their random vectors. What the vectors come from is added to the ancestry of the encoder.

    Args:
        encoder: just built.
        tokenizer: its own.
        name: a run, a .ckpt file or a file of word vectors.

    Returns:
        A line that says how many vectors were found.

    Raises:
        UserError: there is no such run or file, its vectors have another width, or they are of none of these words.
    """
    path, words = Path(name), tokens_of_words(tokenizer)
    if path.suffix in FILES or (path.is_file() and path.suffix != ".ckpt"):
        read, own = read_vectors(path, words)
        found = {word: torch.from_numpy(vector) for word, vector in read.items()}
        ancestry: tuple[Ancestor, ...] = (published(name) | {"digest": digest(path)},)
    else:
        source: Encoder = Trained(name)  # type: ignore[abstract]  # which gives an encoder of another class
        found = _of_run(source, words)
        own, ancestry = source.embedding.embedding_dim, source.ancestry
    if own != (width := encoder.embedding.embedding_dim):
        raise UserError(
            f"encoder.embedding_from {name}: its vectors have width {own}, and those of the encoder {width}: the two must "
            "be equal"
        )
    if not found:
        raise UserError(
            f"encoder.embedding_from {name}: none of its words is a token of this model: take another one, or leave it out"
        )
    encoder.ancestry = (*encoder.ancestry, *ancestry)
    with torch.no_grad():
        for word, vector in found.items():
            encoder.embedding.weight[words[word]] = vector.to(encoder.embedding.weight)
    filled = sum(len(words[word]) for word in found)
    return (
        f"the embedding of {filled:,} of {tokenizer.vocab_size:,} tokens begins with vectors of "
        f"{spoken(encoder.ancestry[-1])}; the others are random"
    )


def _of_run(source: Encoder, words: dict[str, list[int]]) -> dict[str, Tensor]:
    """The vectors (E,) of words in the encoder of a run: of those that are one token there, or that it spells."""
    tokenizer: Tokenizer = source.tokenizer
    source.build(tokenizer.vocab_size, tokenizer.pad_id, None, tokenizer)
    own = tokens_of_words(tokenizer)
    places = {word: own[word][-1] for word in words if word in own}
    others = [word for word in words if word not in own]
    rows, unknown = tokenizer.encode_open(others, source.spells)
    for word, row in zip(others, rows, strict=True):
        match row[len(tokenizer.prefix) : len(row) - len(tokenizer.suffix)]:
            case [token] if token not in tokenizer.special_ids:
                places[word] = token
    vectors = source.token_vectors(torch.tensor([*places.values()], dtype=torch.int64), unknown)
    return dict(zip(places, vectors, strict=True))


def tokens_of_words(tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The tokens that alone make a word, at the beginning of a text or, last, after a space, by word."""
    special = {*tokenizer.special_ids}
    words = [word for word in dict.fromkeys(tokenizer.spellings()) if word]
    found: dict[str, list[int]] = defaultdict(list)
    start, end = len(tokenizer.prefix), len(tokenizer.suffix)
    for before in ("", " "):
        for word, (ids, _) in zip(words, tokenizer.encode([before + word for word in words]), strict=True):
            own = ids[start : len(ids) - end]
            if len(own) == 1 and own[0] not in special and own[0] not in found[word]:
                found[word].append(own[0])
    return {word: ids for word, ids in found.items() if ids}
