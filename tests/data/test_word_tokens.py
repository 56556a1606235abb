"""Whole words as tokens: the cuts are those of the word rules in every script, the vocabulary that of counting."""

from collections import Counter

import pytest
import tokenizers

from ssl_nlp.data.tokenizer import Tokenizer, TokenizerSettings, train
from ssl_nlp.data.words import words
from ssl_nlp.errors import UserError
from tests.data.test_tokenizer import CHINESE, HINDI, THAI
from tests.data.test_words import TEXTS

ENGLISH = ["The dog sees a dog.", "the cat (a small one) can't see 3.5 km!", "THE END"]


def trained(texts: list[str], vocab_size: int = 300, **settings) -> Tokenizer:
    return Tokenizer(train(TokenizerSettings("word", vocab_size, **settings), lambda: iter(texts)))


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a text without the frame."""
    [(ids, starts)] = tokenizer.encode([text])
    assert ids[:1] == tokenizer.prefix and starts == [True] * len(ids)
    return [tokenizer.token(number) for number in ids[1:]]


@pytest.mark.parametrize("text", [*TEXTS, *CHINESE, *HINDI, *THAI, *ENGLISH])
def test_tokens_are_the_words_of_the_text_and_its_other_signs_without_white_space(text):
    tokenizer = trained([text])
    found = tokens(tokenizer, text)
    assert [token for token in found if words(token)] == words(text)
    assert "".join(found) == "".join(text.split())
    [(ids, _, offsets)] = tokenizer.encode_with_offsets([text])
    assert offsets[0] is None and [text[slice(*place)] for place in offsets[1:]] == found
    assert Tokenizer(tokenizer.serialize()).encode([text])[0][0] == ids


def test_the_vocabulary_is_the_most_frequent_words_and_ties_go_by_code_point():
    counts = Counter(f"w{i:03}" for i in range(400) for _ in range(1 + i % 7))
    text = " ".join(counts.elements())
    tokenizer = trained([text])
    expected = sorted(counts, key=lambda word: (-counts[word], word))[:296]  # beside four special tokens
    assert [tokenizer.token(number) for number in range(4, 300)] == expected
    assert tokenizer.vocab_size == 300
    assert trained([text], 1000).vocab_size == 404  # the vocabulary may be smaller than it might be
    frequent = trained([text], 1000, min_count=5)
    assert frequent.vocab_size == 4 + sum(count >= 5 for count in counts.values())
    backwards = trained([" ".join(reversed(text.split()))])
    assert backwards.fingerprint() == tokenizer.fingerprint()
    assert frequent.fingerprint() != tokenizer.fingerprint()


def test_case_is_folded_only_if_asked():
    assert tokens(trained(ENGLISH), "The THE the tHe") == ["The", "THE", "the", "<unk>"]
    folded = trained(ENGLISH, lowercase=True)
    assert tokens(folded, "The THE the tHe") == ["the"] * 4
    assert folded.fingerprint() != trained([text.lower() for text in ENGLISH]).fingerprint()
    [(_, _, offsets)] = folded.encode_with_offsets(["İ The"])  # longer in lower case
    assert offsets == [None, (0, 1), (2, 5)]


def test_unknown_words_are_unknown_and_special_tokens_in_a_text_are_text():
    tokenizer = trained(ENGLISH)
    [(ids, _)] = tokenizer.encode(["the zebra <mask> <unk>"])
    assert ids[2] == tokenizer.unk_id
    assert not {tokenizer.pad_id, tokenizer.mask_id, *tokenizer.prefix} & set(ids[1:])
    masked = tokenizer.encode_with_masks("the [MASK] sees 今天")
    assert masked.count(tokenizer.mask_id) == 1
    assert masked == [*tokenizer.encode(["the"])[0][0], tokenizer.mask_id, *tokenizer.encode(["sees 今天"])[0][0][1:]]


@pytest.mark.parametrize(
    "text",
    [
        "the dog sees a big tree",
        "Yes, it can't (or won't) be: 3.5 % of [them]!",
        "今天天气很好。我们去公园散步！",
        "“Quoted,” he said; and… ¿qué?",
    ],
)
def test_decoded_text_has_its_spaces_where_people_write_them(text):
    tokenizer = trained([text])
    decoded = tokenizer.decode(tokenizer.encode([text])[0][0])
    assert decoded == text.replace("3.5 %", "3.5%")


def test_outside_of_this_package_the_backend_cuts_what_has_spaces_alike():
    """A tokenizer.json has no dictionary: a Chinese sentence is one word there."""
    tokenizer = trained([*ENGLISH, *CHINESE])
    backend: tokenizers.Tokenizer = tokenizer._backend
    for text in [*ENGLISH, "don't U.S. my_func2(x) 1,000 e.g. naïve, l'été"]:
        assert backend.encode(text).ids == tokenizer.encode([text])[0][0]
    assert backend.encode(CHINESE[1]).ids != tokenizer.encode([CHINESE[1]])[0][0]


def test_a_count_that_no_word_reaches_is_refused():
    with pytest.raises(UserError, match="no word of the training text occurs 3 times: lower data.tokenizer.min_count"):
        trained(["the dog sees", "the cat"], min_count=3)


@pytest.mark.parametrize(("kind", "number"), [("word", 0), ("bpe", 2)])
def test_a_smallest_count_is_for_words(kind, number):
    with pytest.raises(UserError, match=f"tokenizer.min_count {number}: use 1 or more"):
        TokenizerSettings(kind, min_count=number)
