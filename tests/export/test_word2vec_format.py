"""Word vectors as word2vec writes them: gensim reads them back to the bit."""

import numpy as np
import pytest
import torch
import yaml
from gensim.models import KeyedVectors

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train
from ssl_nlp.encoders import BagOfWords, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.export import word2vec_format
from ssl_nlp.export.stock import base_model
from ssl_nlp.methods import SimCLR
from tests.end_to_end.cli import run, save_untrained

TEXTS = ["the dog sees the cat", "the naïve café: 今天天气很好。", "don't 3.5 \u00a0 the"]


def made(kind: str = "word") -> SimCLR:
    torch.manual_seed(0)
    method = SimCLR(BagOfWords(dim=7, dropout=0.5))
    method.connect(Tokenizer(train(TokenizerSettings(kind, 300), lambda: iter(TEXTS))))
    return method


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_equal_vectors_in_the_order_of_frequency(binary, tmp_path):
    method = made()
    contents = word2vec_format.write(method, tmp_path)
    path = tmp_path / f"vectors.{'bin' if binary else 'txt'}"
    loaded = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    assert loaded.index_to_key[0] == "the"
    assert {"naïve", "今天", "don't", "3.5", "."} - {*loaded.index_to_key} == {"."}
    ids = [method.tokenizer.encode([word])[0][0][1] for word in loaded.index_to_key]
    assert ids == [*range(4, method.vocab_size)]
    assert np.array_equal(loaded.vectors, method.encoder.embedding.weight[4:].detach().numpy())
    assert contents.summary.startswith(f"{method.vocab_size - 4} vectors of width 7")


def test_the_text_is_what_it_says(tmp_path):
    """Without gensim: the head, a line for each word, and numbers that come back equal."""
    method = made()
    word2vec_format.write(method, tmp_path)
    head, *lines = (tmp_path / "vectors.txt").read_text(encoding="utf-8").splitlines()
    assert head == f"{len(lines)} 7" == f"{method.vocab_size - 4} 7"
    for line, vector in zip(lines, method.encoder.embedding.weight[4:], strict=True):
        word, *numbers = line.split(" ")
        assert method.tokenizer.encode([word])[0][0][1:] == [4 + lines.index(line)]
        assert torch.equal(torch.tensor([float(number) for number in numbers]), vector.detach())


def test_tokens_with_white_space_are_left_out_and_the_card_says_so(tmp_path):
    method = made("char")
    contents = word2vec_format.write(method, tmp_path)
    assert contents.notes == ["2 tokens with white space in them are left out."]
    assert (tmp_path / "vectors.txt").read_text().split()[0] == str(method.vocab_size - 4 - 2)


def test_the_command_writes_a_folder_with_a_card_and_refuses_other_encoders(tmp_path, capsys):
    path = save_untrained(made(), made().tokenizer, tmp_path / "a.ckpt")
    assert run("export", str(path), "--format", "word2vec", "--output", str(tmp_path / "out")) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"README.md", "vectors.txt", "vectors.bin"}
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert (head["library_name"], head["pipeline_tag"]) == ("gensim", "feature-extraction")
    other = SimCLR(Transformer(size=None, dim=16, layers=1, heads=2))
    path = save_untrained(other, made().tokenizer, tmp_path / "b.ckpt")
    assert run("export", str(path), "--format", "word2vec", "--output", str(tmp_path / "no")) == 2
    assert "the states of a Transformer depend on the whole text" in capsys.readouterr().err
    assert run("export", str(path), "--output", str(tmp_path / "stock")) == 0
    assert "is a single word, other than in the run" in capsys.readouterr().out


def test_stock_classes_have_no_place_for_word_vectors_and_this_format_has():
    with pytest.raises(
        UserError, match="no class for the encoder BagOfWords: export its word vectors with --format word2vec"
    ):
        base_model(BagOfWords(dim=7))
