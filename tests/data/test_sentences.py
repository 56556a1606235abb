import pytest

from ssl_nlp.data.sentences import split_sentences

TEXTS = {
    "Chinese": ["今天天气很好。", "我们去公园散步。", "“好！”", "她说。", "“走吧？”"],
    "Chinese with ASCII marks": ["好吗?", "好!", "走吧"],
    "Chinese with an ellipsis within": ["他想……我不去。", "真的"],
    "Japanese": ["彼は「行こう。」", "雨が降った。", "本当？", "うん！"],
    "Russian": ["Сегодня тепло.", "Мы пошли.", "«Куда?» — спросил он."],
    "Russian initials": ["А. С. Пушкин жил в Москве.", "Он писал."],
    "Greek": ["Τι κάνεις;", "Καλά είμαι.", "Ναι."],
    "Hindi": ["यह अच्छा है।", "हम गए।"],
    "Arabic": ["هل أنت بخير؟", "نعم، أنا بخير.", "شكرا!"],
    "Amharic": ["ጤና ይስጥልኝ።", "ደህና ነህ፧", "አዎ።"],
    "Armenian": ["Բարեւ։", "Ինչպես ես։"],
    "Burmese": ["မင်္ဂလာပါ။", "နေကောင်းလား။"],
    "German": ["Das ist gut.", "Über uns, z.B. Ärzte."],
    "German quotes": ["„Ja.“", "Er ging.", "»Wohin?«", "„Nein.“, sagte sie.", "‚Doch…‘", "Ärzte kamen."],
    "French": ["C'est bien.", "Élodie part.", "« Où ? »", "Ici."],
    "Spanish": ["¿Qué tal?", "¡Muy bien!", "¿Y tú?"],
    "curly quotes and ellipses": ["“Good.”", "“Yes…”", "He left…", "Then he came… back."],
    "emoji": ["😀😀 One.", "😀 Two.", "Three! 😀"],
}


@pytest.mark.parametrize("language", TEXTS)
def test_sentences_end_as_their_language_ends_them(language):
    sentences = TEXTS[language]
    for between in ("", " ") if language.startswith(("Chinese", "Japanese")) else (" ",):
        assert split_sentences(between.join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["Dr. Smith left.", "He ran!"],
        ["Mr. J. R. Smith vs. Prof. Jones, e.g. in Fig. 3 and No. 5."],
        ['"Why?" he asked.', '"Oh!" she said.', '"Go!"', "He went."],
        ["It is 3.5 km.", "5 dogs left.", "(That is all.)", "[1] More? yes! no."],
        ["Use a .Path object, where a != b, or a.b.C, or [0..N).", "See https://x.y.z/A?b=C!D too."],
        ["Wait ... what?", "No!!!", "Why?!", "So it ends. . ."],
    ],
)
def test_abbreviations_initials_small_letters_and_code_end_no_english_sentence(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


def test_every_line_break_ends_a_sentence_and_nothing_is_lost():
    assert split_sentences("one\n\n two. Three\r\n四。五\n") == ["one", "two.", "Three", "四。", "五"]
    assert split_sentences("สวัสดีครับ วันนี้อากาศดี\nไปเที่ยวกัน") == ["สวัสดีครับ วันนี้อากาศดี", "ไปเที่ยวกัน"]
    assert split_sentences(" \n ") == []
    everything = " ".join(" ".join(sentences) for sentences in TEXTS.values())
    assert "".join(split_sentences(everything)).replace(" ", "") == everything.replace(" ", "")
