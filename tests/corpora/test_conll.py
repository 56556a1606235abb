"""Sentences with tags come from CoNLL files and from records with lists, and tags stay with their words."""

import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from ssl_nlp.corpora import Document, HubDataset, TextFiles
from ssl_nlp.data.marks import words_of_tags
from ssl_nlp.errors import UserError
from tests.corpora.files import compress, fails, read

SENTENCES = [
    Document("Ada left London .", ("B-PER", "O", "B-LOC", "O")),
    Document("Why ?", ("O", "O")),
    Document("#Ada # left", ("B-PER", "O", "O")),
]
TABS = "Ada\tB-PER\nleft\tO\nLondon\tB-LOC\n.\tO\n\n\nWhy\tO\n?\tO\n\n#Ada\tB-PER\n#\tO\nleft\tO\n"


def written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "content",
    [
        TABS,
        TABS.replace("\t", " "),
        TABS.replace("\t", " \t NN\t").replace("\n", "\r\n"),  # three columns, and blanks around them
        f"-DOCSTART- -X-\n\n{TABS}\n-DOCSTART- O\n\n",
        f"# text = Ada left London .\n# global\n{TABS}",
        TABS.rstrip("\n"),
    ],
)
def test_sentences_of_a_file(tmp_path: Path, content: str) -> None:
    path = written(tmp_path / "a.conll", content)
    assert read(path, text=0, label=-1) == SENTENCES
    assert read(compress(path), text=0, label=-1) == SENTENCES


def test_columns_may_be_any_and_tags_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "NN Ada x\nVB left y\n")
    assert read(path, "conll", text=1, label=0) == [Document("Ada left", ("NN", "VB"))]
    assert read(path, "conll", text=1) == [Document("Ada left")]


def test_universal_dependencies(tmp_path: Path) -> None:
    rows = ["1-2\tdon't", "1\tdo\tAUX", "2\tnot\tPART", "2.1\tleave", "3\tgo\tVERB"]
    lines = ["\t".join([*row.split("\t"), *"_" * 10][:10]) for row in rows]
    path = written(tmp_path / "a.conllu", "# sent_id = 1\n" + "\n".join(lines) + "\n")
    assert read(path, text=1, label=2) == [Document("do not go", ("AUX", "PART", "VERB"))]


@pytest.mark.parametrize("words", ["南瓜C3会", "ねこ", "《C」", "Ｃ２"])
def test_characters_of_chinese_and_japanese_are_not_torn_apart(tmp_path: Path, words: str) -> None:
    path = written(tmp_path / "a.conll", "".join(f"{word}\tO{i}\n" for i, word in enumerate(words)))
    [document] = read(path, text=0, label=1)
    assert document.text == words
    assert words_of_tags(document) == [(i, i + 1) for i in range(len(words))]


def test_words_of_several_characters_and_single_letters_are_joined_by_blanks(tmp_path: Path) -> None:
    path = written(tmp_path / "a.conll", "北京\tNR\n大\tJJ\n\nI\tPP\nx\tVB\n")
    assert [document.text for document in read(path, text=0, label=1)] == ["北京 大", "I x"]


@pytest.mark.parametrize(
    ("content", "text", "label", "complaint"),
    [
        ("a\tO\nb\n", 0, -1, "line 2 has 1 column instead of 2: give each word its tag"),
        ("a\n", 0, -1, "line 1 has 1 columns, so that `text: 0` and `label: -1` are the same one"),
        ("a\tO\nb\t\n", 0, -1, "line 2: the word 'b' has no tag"),
        ("a\tO\nb\tX\tO\n", 0, -1, "line 2 has 3 columns instead of 2"),
        ("a\tO\n", 0, 2, "line 1 has 2 columns and no column `label: 2`"),
        ("a\tO\n", "text", 1, "`text: text` is not a column of a CoNLL file: give its number"),
        ("a\tO\n", 0, "tag", "`label: tag` is not a column"),
        ("a\tO\nNew York\tO\n", 0, 1, "line 2: the word 'New York' is blank or holds white space: write it with _"),
        ("\tO\n", 0, 1, "line 1: the word '' is blank"),
        ("\n", 0, 1, "is empty"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: str, text: int, label: int, complaint: str) -> None:
    assert complaint in fails(written(tmp_path / "a.conll", content), text=text, label=label)


def test_records_with_lists(tmp_path: Path) -> None:
    records = [{"tokens": d.text.split(), "tags": d.label} for d in SENTENCES]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert read(path, text="tokens", label="tags") == SENTENCES
    assert read(path, text="tokens") == [Document(document.text) for document in SENTENCES]
    path.write_text('{"tokens": [], "tags": []}\n{"tokens": ["a"], "tags": [3]}\n')
    assert read(path, text="tokens", label="tags") == [Document("", ()), Document("a", ("3",))]
    for tags, complaint in (
        ("[0]", "line 1: 2 words, but 1 tag: give each word one tag"),
        ("[]", "line 1: 2 words, but 0 tags"),
        ('["O", null]', "line 1: entry 2 of the list in field `tags` is null, not a tag or class"),
    ):
        path.write_text(f'{{"tokens": ["a", "b"], "tags": {tags}}}\n')
        assert complaint in fails(path, text="tokens", label="tags")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hub_with_numbered_tags(tmp_path: Path, streaming: bool, monkeypatch) -> None:
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "cache"))
    names = sorted({tag for document in SENTENCES for tag in document.label})
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
    for split, sentences in (("train", SENTENCES), ("validation", [Document("It", ("O",))])):
        columns = {"tokens": [d.text.split() for d in sentences], "ner_tags": [list(d.label) for d in sentences]}
        (tmp_path / "data").mkdir(exist_ok=True)
        Dataset.from_dict(columns, features).to_parquet(str(tmp_path / "data" / f"{split}.parquet"))
    settings = {"valid": "validation", "test": None, "text": "tokens", "label": "ner_tags", "streaming": streaming}
    corpus = HubDataset(str(tmp_path / "data"), **settings)
    assert list(corpus.documents("train")) == SENTENCES
    with pytest.raises(UserError, match="entry 2 of the list in field `ner_tags` is null, not a tag or class"):
        corpus._to_document({"tokens": ["a", "b"], "ner_tags": [0, -1]}, names)
    assert not streaming or sorted(corpus.stream(0, 1), key=str) == sorted(SENTENCES, key=str)


def test_every_occurrence_of_a_sentence_counts_but_none_in_two_splits(tmp_path: Path) -> None:
    train = written(tmp_path / "train.conll", "a\tO\n\nb\tO\n\nb\tB\n\nc\tO\n")
    valid = written(tmp_path / "valid.conll", "c\tO\n\nc\tO\n\nd\tO\n")
    corpus = TextFiles(str(train), str(valid), None, text=0, label=1)
    assert [document.text for document in corpus.documents("train")] == ["a", "b", "b"]
    assert [document.text for document in corpus.documents("valid")] == ["c", "c", "d"]
