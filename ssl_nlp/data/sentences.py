"""Documents to sentences, for methods that look at one sentence at a time."""

import re

# A full stop, question or exclamation mark, perhaps a closing quote or bracket, then white space and a capital, digit or
# opening quote. An abbreviation or an initial before the stop does not end a sentence.
_END = re.compile(r"""(?<=[.!?])(?:["')\]]*)\s+(?=["'(\[]?[A-Z0-9])""")
_NOT_AN_END = re.compile(
    r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|cf|al|No|Fig|Eq|Sec|Ch|i\.e|e\.g|approx))\.$"
)


def split_sentences(text: str) -> list[str]:
    r"""The sentences of a text, in order: every line break ends one, and so does ., ! or ? before a capital.

    >>> split_sentences("Dr. Smith left. He ran!\nThen it rained.")
    ['Dr. Smith left.', 'He ran!', 'Then it rained.']
    """
    sentences = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if not _NOT_AN_END.search(line, start, end.start()):
                sentences.append(line[start : end.end()].strip())
                start = end.end()
        sentences.append(line[start:].strip())
    return [sentence for sentence in sentences if sentence]
