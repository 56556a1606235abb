"""Corpora whose labels can be told from their texts."""

from ssl_nlp.cache import fingerprint
from ssl_nlp.corpora import Corpus, Document, Span
from ssl_nlp.data import TextDataModule, TokenizerSettings

NAMES = ["Ada", "Grace", "Alan", "Emmy"]
TEXTS = [
    f"Yesterday {NAMES[i % 4]} visited {'very ' * (i % 5)}unbelievable Newcastle {i}. Nothing happened {i}. Why {i}?"
    for i in range(60)
]


def tags_of(text):
    """A tag for each word, told by the word."""
    return tuple("PER" if word in NAMES else "LOC" if word.startswith("Newc") else "O" for word in text.split())


def spans_of(text):
    found = [(text.find(name), name, "PER") for name in NAMES] + [(text.find("Newcastle"), "Newcastle", "LOC")]
    if "Nothing" in text:  # over the end of a sentence
        start = text.index("unbelievable") if "unbelievable" in text else 0
        found += [(start, text[start : text.index("Nothing") + 7], None)]
    return tuple(Span(start, start + len(part), name) for start, part, name in found if start >= 0)


LABELS = {
    "class": lambda text: "odd" if len(text) % 2 else "even",
    "score": lambda text: len(text) / 7,
    "tags": tags_of,
    "spans": spans_of,
}


class Labelled(Corpus):
    """Documents with labels of one kind; those of `valid` and `test` are some of `train`."""

    def __init__(self, kind, texts=TEXTS, label=None, pairs=False):
        label = label or LABELS[kind]
        self.all = [Document(text, label(text), f"Of {text}" if pairs else None) for text in texts]

    def documents(self, split):
        return iter(self.all if split == "train" else self.all[:8])

    def fingerprint(self):
        return fingerprint([[d.text, repr(d.label), d.pair] for d in self.all])


def module(kind, corpus=None, unit="sentence", length=64, **settings):
    settings = {"batch_size": 4, "labels": kind} | settings
    return TextDataModule(
        corpus or Labelled(kind), TokenizerSettings(vocab_size=320), unit=unit, length=length, **settings
    )


def rows_of(batches, tokenizer):
    """The text, the tokens without padding, and the label of each row, those of pairs too."""
    for batch in batches:
        for part in [batch] if batch.pair is None else [batch, batch.pair]:
            for ids, real, label in zip(part.input_ids, part.is_text, part.labels, strict=True):
                yield tokenizer.decode(ids[real].tolist()), ids[real].tolist(), label


def first_tokens(text, tokenizer):
    """The position of the first token of each word, by encoding what stands before it."""
    places, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        place = len(tokenizer.encode([text[:at].rstrip()])[0][0])
        alone = tokenizer.token(tokenizer.encode([text])[0][0][place]).isspace()  # a token of white space
        places.append(place + alone)
        at += len(word)
    return places
