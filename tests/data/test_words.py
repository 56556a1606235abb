import pytest

from ssl_nlp.data.words import first_words, word_spans, words

TEXTS = {
    "Can't stop: 3.5 km, e-mail!": ["Can't", "stop", "3.5", "km", "e", "mail"],
    "今天天气很好。我们用iPhone手机": ["今天", "天气", "很好", "我们", "用", "iPhone", "手机"],
    "「本を読む。」": ["本", "を", "読む"],
    "नमस्ते दुनिया। हिन्दी": ["नमस्ते", "दुनिया", "हिन्दी"],
    "สวัสดีครับ วันนี้อากาศดี": ["สวัสดี", "ครับ", "วัน", "นี้", "อากาศ", "ดี"],
    "😀 Où est l'été? 😀": ["Où", "est", "l'été"],
    " .!? ": [],
    "": [],
}


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_their_script(text):
    assert words(text) == TEXTS[text]
    assert [text[start:end] for start, end in word_spans(text)] == TEXTS[text]


def test_the_first_words_of_a_text_are_a_beginning_of_it():
    assert first_words("One, two\n three.  Four", 3, 100) == "One, two three"
    assert first_words("今天天气很好。", 2, 100) == "今天天气"
    assert first_words("今天天气很好。", 9, 5) == "今天天气"
    assert first_words("only", 5, 100) == "only"
    assert first_words("unbreakable", 5, 4) == "unbr"
    assert first_words("...", 5, 100) == "..."
    assert first_words("", 5, 100) == ""
