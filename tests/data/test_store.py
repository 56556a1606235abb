import hashlib
import json

import numpy as np
import pytest

from ssl_nlp.corpora import Document
from ssl_nlp.data import Blocks, Pairs, Sentences
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import maker_of
from ssl_nlp.errors import UserError
from tests.corpus import ListCorpus

TEXTS = ["One dog.", "A cat. A bird. A tree.", ("red house", "rotes Haus. Ja."), "Who? He. She. It."]
MAKERS = {maker.kind: maker for maker in (Blocks(), Sentences(), Pairs())}
ROWS = {
    "block": [["One dog."], ["A cat. A bird. A tree."], ["red house"], ["Who? He. She. It."]],
    "sentence": [["One dog."], ["A cat.", "A bird.", "A tree."], ["red house"], ["Who?", "He.", "She.", "It."]],
    "pair": [[], ["A cat.", "A bird."], ["red house", "rotes Haus. Ja."], ["Who?", "He.", "She.", "It."]],
}


@pytest.fixture(scope="module")
def tokenizer():
    return get_tokenizer(TokenizerSettings(vocab_size=300), ListCorpus(TEXTS))


@pytest.mark.parametrize("unit", ROWS)
def test_rows_know_their_documents_and_statistics_are_those_of_the_rows(unit, tokenizer):
    store = open_store(ListCorpus(TEXTS), "train", tokenizer, MAKERS[unit])
    rows = [(number, text) for number, texts in enumerate(ROWS[unit]) for text in texts]
    assert store.documents.tolist() == [number for number, _ in rows]
    assert isinstance(store.documents, np.memmap)
    read = [store.read(*store.starts[i : i + 2])[0].tolist() for i in range(len(rows))]
    assert read == [ids for ids, _ in tokenizer.encode([text for _, text in rows])]
    assert store.statistics.documents == len(rows)
    assert store.statistics.bytes == sum(len(text.encode()) for _, text in rows)
    assert store.statistics.tokens == sum(len(ids) - 1 for ids in read)


def test_the_digest_of_a_text_is_that_of_its_documents_in_their_order(tokenizer):
    """Whatever the tokenizer and the unit are: others can compute it from the text."""
    characters = get_tokenizer(TokenizerSettings(kind="char"), ListCorpus(TEXTS))
    stores = [open_store(ListCorpus(TEXTS), "train", *how) for how in ((tokenizer, Pairs()), (characters, Blocks()))]
    documents = ListCorpus(TEXTS).documents("train")
    lines = "".join(json.dumps([document.text, document.pair, None]) + "\n" for document in documents)
    assert {store.text_digest for store in stores} == {hashlib.sha256(lines.encode()).hexdigest()}
    assert stores[0].digest != stores[1].digest
    assert open_store(ListCorpus(TEXTS[::-1]), "train", characters, Blocks()).text_digest != stores[0].text_digest


def test_text_without_pairs_is_refused(tokenizer):
    with pytest.raises(
        UserError, match="train split of ListCorpus has no pairs, because no document has two sentences"
    ):
        open_store(ListCorpus(["One dog.", "Two dogs."]), "train", tokenizer, Pairs())
    assert "\n" not in str(Pairs().nothing("it"))


def test_an_own_pair_is_not_cut_into_sentences():
    document = Document("A cat. A bird.", pair="A tree. A dog.")
    assert Pairs().texts(document) == ["A cat. A bird.", "A tree. A dog."]
    assert Sentences().texts(document) == ["A cat.", "A bird."]


class Nothing(Sentences):
    """Finds no text in any document."""

    def texts(self, document):
        return []


def test_a_maker_that_finds_no_text_and_an_unknown_one_are_refused(tokenizer):
    with pytest.raises(UserError, match="Nothing finds no text in the train split of ListCorpus"):
        open_store(ListCorpus(TEXTS), "train", tokenizer, Nothing())
    with pytest.raises(UserError, match="data.unit 'line' is unknown: use one of block, sentence, text, pair"):
        maker_of("line")
