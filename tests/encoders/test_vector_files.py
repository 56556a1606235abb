"""Files of word vectors in all their forms, and what is not one."""

import codecs

import numpy as np
import pytest

from ssl_nlp.encoders.vector_files import read_vectors
from ssl_nlp.errors import UserError

WORDS = ["the", "naïve", "今天", "don't", "x"]
VECTORS = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


def text(head: bool = True) -> bytes:
    lines = ["5 6"] if head else []
    lines += [f"{word} {' '.join(map(repr, row.tolist()))}" for word, row in zip(WORDS, VECTORS, strict=True)]
    return "".join(f"{line}\n" for line in lines).encode()


def binary(end: bytes = b"\n") -> bytes:
    rows = (word.encode() + b" " + row.tobytes() + end for word, row in zip(WORDS, VECTORS, strict=True))
    return b"5 6\n" + b"".join(rows)


FORMS = {
    "word2vec": text(),
    "fasttext": text().replace(b"\n", b" \n"),
    "windows": text().replace(b"\n", b"\r\n"),
    "glove": text(head=False),
    "binary": binary(),
    "gensim": binary(end=b""),
    "byte order mark": codecs.BOM_UTF8 + text(),
    "glove with a byte order mark": codecs.BOM_UTF8 + text(head=False),
    "blank lines at the end": text() + b"\n \n",
}


@pytest.mark.parametrize("form", FORMS)
def test_wanted_words_have_their_vectors_to_the_bit(form, tmp_path):
    (tmp_path / "vectors").write_bytes(FORMS[form])
    found, width = read_vectors(tmp_path / "vectors", {"今天", "x", "the", "unknown"})
    assert width == 6
    assert list(found) == ["the", "今天", "x"]
    for word, vector in found.items():
        assert np.array_equal(vector, VECTORS[WORDS.index(word)])


def test_of_a_word_that_is_there_twice_the_first_vector_counts(tmp_path):
    (tmp_path / "vectors").write_text("2 2\na 1 2\na 3 4\n")
    found, _ = read_vectors(tmp_path / "vectors", {"a"})
    assert found["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "its first line is neither two whole numbers nor a word with its numbers"),
        (b"5 0\n", "its first line is neither"),
        (b"# A list of words\n", "its first line is neither"),
        (text().decode().encode("utf-16"), "its first line is neither"),
        (b"5 99999999999\nx", "its first line is neither"),
        (b"2 2\nthe 1 2\nx 1 y\n", "vector 2 is not 2 numbers after a word"),
        (b"the 1 2\nx 1\n", "vector 2 is not 2 numbers after a word"),
        (text().replace(b"5 6", b"9 6"), "it has 5 vectors, and its first line promises 9"),
        (binary()[:-9], "it ends within vector 5 of 5"),
        (b"3 6\n" + binary()[4:], "it goes on after vector 3, the last one that its first line promises"),
        (b"5 6\n" + bytes(3000), "it ends within vector 1 of 5"),
        (b"999999999 6\n" + binary()[4:], "it ends within vector 6 of 999999999"),
        (b"1 2\nthe 1 nan\n", "the vector of 'the' is not finite"),
        (b"1 2\nthe 1 1e39\n", "the vector of 'the' is not finite"),
    ],
)
def test_what_is_not_such_a_file_is_one_line(content, complaint, tmp_path):
    (tmp_path / "vectors").write_bytes(content)
    with pytest.raises(UserError, match=f"vectors is not a file of word vectors: {complaint}") as caught:
        read_vectors(tmp_path / "vectors", WORDS)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere.bin cannot be read: No such file"):
        read_vectors(tmp_path / "nowhere.bin", WORDS)
