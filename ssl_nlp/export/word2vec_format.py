"""`--format word2vec`: the vectors of an encoder of word vectors, as text and in binary, as word2vec writes them.

A line `VECTORS WIDTH`, and then for each token its spelling, a space, and its numbers: in `vectors.txt` with nine digits,
which float32 needs to come back equal, in `vectors.bin` as little-endian float32.
"""

from pathlib import Path

import torch

from ssl_nlp.encoders import BagOfWords
from ssl_nlp.errors import UserError
from ssl_nlp.export.contents import Contents
from ssl_nlp.training.texts import TextModule

CODE = """\
from gensim.models import KeyedVectors

vectors = KeyedVectors.load_word2vec_format("{path}/vectors.bin", binary=True)
print(vectors.most_similar(vectors.index_to_key[0]))"""


def write(module: TextModule, folder: Path) -> Contents:
    """Write the vectors of all tokens but special ones, in the order of their ids: those of words are by frequency.

    Args:
        module: a method or task.
        folder: to write into.

    Raises:
        UserError: its states depend on more than the token.
    """
    if not isinstance(module.encoder, BagOfWords):
        raise UserError(
            f"the states of a {type(module.encoder).__name__} depend on the whole text, so a word has no vector of its "
            "own: --format word2vec is for the encoder BagOfWords"
        )
    tokenizer = module.tokenizer
    spelled = {number: tokenizer.spelling(number) for number in range(tokenizer.vocab_size)}
    tokens = {number: text for number, text in spelled.items() if text and number not in tokenizer.special_ids}
    written = {number: text for number, text in tokens.items() if text.split() == [text]}
    vectors = module.encoder.token_vectors(torch.tensor([*written], dtype=torch.int64)).float().cpu()
    head = f"{len(written)} {vectors.shape[1]}\n"
    line = "%s " + " ".join(["%.9g"] * vectors.shape[1]) + "\n"
    with (folder / "vectors.txt").open("w", encoding="utf-8", newline="\n") as text:
        text.write(head)
        text.writelines(line % (word, *row.tolist()) for word, row in zip(written.values(), vectors, strict=True))
    rows = vectors.numpy().astype("<f4")
    with (folder / "vectors.bin").open("wb") as binary:
        binary.write(head.encode())
        binary.writelines(
            f"{word} ".encode() + row.tobytes() + b"\n" for word, row in zip(written.values(), rows, strict=True)
        )
    notes = [f"{len(tokens) - len(written)} tokens with white space in them are left out."] * (
        len(written) < len(tokens)
    )
    summary = f"{len(written):,} vectors of width {vectors.shape[1]}, as text and in binary, in the format of word2vec."
    return Contents("gensim", "feature-extraction", summary, CODE, notes)
