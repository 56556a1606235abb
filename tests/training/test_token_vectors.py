"""A token embedding that begins with the vectors of a run or a file: which tokens get them, and what is recorded."""

import os
import shutil
from functools import partial

import pytest
import torch

from ssl_nlp.data import TextDataModule, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import BagOfWords, Encoder, Recurrent, TextCNN, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.export import word2vec_format
from ssl_nlp.methods import CausalLM, MaskedLM, Method, MoCo, SimCLR
from ssl_nlp.objectives.views import Repeat
from ssl_nlp.runs.checkpoint import digest, instantiate
from ssl_nlp.training.token_vectors import tokens_of_words
from tests.corpus import WORDS, ListCorpus, random_texts
from tests.end_to_end.cli import run, save_untrained, small, write_texts
from tests.methods.test_every_method import trainer

CORPUS = ListCorpus(random_texts(40))
KINDS = ["word", "bpe", "wordpiece", "unigram"]


def tokenizer(kind: str = "word", corpus: ListCorpus = CORPUS) -> Tokenizer:
    return get_tokenizer(TokenizerSettings(kind, 400), corpus)


@pytest.fixture
def source(tmp_path) -> SimCLR:
    """Word vectors, untrained, in a.ckpt and vectors.bin; `house` is not among them."""
    method = SimCLR(BagOfWords(dim=16))
    torch.manual_seed(0)
    texts = ListCorpus([text.replace("house", "The") for text in random_texts(40)])
    save_untrained(method, tokenizer(corpus=texts), tmp_path / "a.ckpt")
    word2vec_format.write(method, tmp_path)
    return method


def vector(method: Method, word: str) -> torch.Tensor:
    """The vector of the only token of a word after a space."""
    [token] = tokens_of_words(method.tokenizer)[word][-1:]
    return method.encoder.embedding.weight[token].detach()


def begun(kind: str, encoder: Encoder) -> CausalLM:
    method = CausalLM(encoder)
    torch.manual_seed(1)
    method.connect(tokenizer(kind))
    return method


def transformer(embedding_from: str | None, **arguments) -> Transformer:
    return Transformer(None, **{"dim": 16, "layers": 1, "heads": 2, "embedding_from": embedding_from} | arguments)


@pytest.mark.parametrize("place", ["a.ckpt", "vectors.bin", "vectors.txt"])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_are_words_of_the_table_begin_with_its_vectors_and_the_others_are_random(
    kind, place, source, tmp_path
):
    method, plain = begun(kind, transformer(str(tmp_path / place))), begun(kind, transformer(None))
    known = tokens_of_words(method.tokenizer)
    assert {*WORDS} <= known.keys()
    filled = set()
    for word in {*known} & {*tokens_of_words(source.tokenizer)}:
        for token in known[word]:
            assert torch.equal(method.encoder.embedding.weight[token], vector(source, word))
            filled.add(token)
    assert "house" in known and not {*known["house"]} & filled
    others = [token for token in range(method.vocab_size) if token not in filled]
    assert torch.equal(method.encoder.embedding.weight[others], plain.encoder.embedding.weight[others])
    for name, weight in plain.encoder.state_dict().items():
        if "tok_embeddings" not in name:
            assert torch.equal(method.encoder.state_dict()[name], weight)
    assert f"the embedding of {len(filled)} of {method.vocab_size} tokens begins with vectors of" in method._begins_with


def test_a_token_inside_of_words_is_no_word():
    """After a space and at the beginning of a text, BPE has two tokens for a word; WordPiece marks what continues one."""
    bpe = tokenizer("bpe")
    assert [bpe.spelling(token) for token in tokens_of_words(bpe)["dog"]] in (["dog", "Ġdog"], ["Ġdog"])
    assert not any("##" in word for word in tokens_of_words(tokenizer("wordpiece")))


@pytest.mark.parametrize(
    "kind",
    [
        partial(BagOfWords, dim=16),
        partial(Recurrent, dim=8, embedding_dim=16, layers=1),
        partial(TextCNN, dim=6, embedding_dim=16),
    ],
)
def test_it_fills_any_encoder_of_ours(kind, source, tmp_path):
    method = begun("word", kind(embedding_from=str(tmp_path / "a.ckpt")))
    assert torch.equal(vector(method, "dog"), vector(source, "dog"))


def test_it_fills_copies_of_the_encoder_too(source, tmp_path):
    momentum = MoCo(transformer(str(tmp_path / "a.ckpt")), views=[Repeat(0.2)], queue=8)
    momentum.connect(tokenizer())
    [copied] = [w for name, w in momentum.named_parameters() if "key" in name and "tok_embeddings" in name]
    assert torch.equal(copied, momentum.encoder.embedding.weight)


def test_the_ancestry_records_it_and_checkpoints_need_it_no_more(source, tmp_path, capsys):
    data = TextDataModule(CORPUS, TokenizerSettings("word", 400), "sentence", length=32, batch_size=8, seed=0)
    for place, known in (("a.ckpt", "SimCLR"), ("vectors.bin", None)):
        name = str(tmp_path / place)
        method = MaskedLM(transformer(name, freeze="embeddings"))
        fit = trainer(tmp_path, 1, limit_val_batches=0)
        fit.fit(method, data)
        assert capsys.readouterr().out.count("tokens begins with vectors of") == 1
        [ancestor] = method.encoder.ancestry
        assert (ancestor["checkpoint"], ancestor["method"]) == (name, known)
        assert ancestor["digest"] == digest(tmp_path / place)
        assert "embedding_from" not in method.description()["init_args"]["encoder"]["init_args"]
        fit.save_checkpoint(tmp_path / "b.ckpt")
        os.rename(name, tmp_path / "gone")
        loaded = Method.load_from_checkpoint(tmp_path / "b.ckpt")
        assert loaded.encoder.ancestry == method.encoder.ancestry
        assert torch.equal(vector(loaded, "dog"), vector(source, "dog"))


def test_other_widths_and_missing_files_are_one_line(source, tmp_path):
    for place in ("a.ckpt", "vectors.bin"):
        with pytest.raises(
            UserError, match="its vectors have width 16, and those of the encoder 12: the two must be equal"
        ):
            begun("word", transformer(str(tmp_path / place), dim=12))
    (tmp_path / "french.txt").write_text("2 16\n" + "".join(f"{w} {' '.join('1' * 16)}\n" for w in ("chien", "chat")))
    with pytest.raises(UserError, match="french.txt: none of its words is a token of this model"):
        begun("word", transformer(str(tmp_path / "french.txt")))
    with pytest.raises(UserError, match="nowhere.bin cannot be read"):
        begun("word", transformer("nowhere.bin"))
    with pytest.raises(UserError, match="there is no run nowhere"):
        begun("word", transformer("nowhere"))


def test_a_checkpoint_cannot_name_it_because_it_would_read_other_files():
    described = {"class_path": "ssl_nlp.encoders.BagOfWords", "init_args": {"embedding_from": "/etc/passwd"}}
    with pytest.raises(UserError, match="its BagOfWords has 'embedding_from', which would read other files"):
        instantiate(described, Encoder)  # type: ignore[type-abstract]


@pytest.mark.slow
def test_a_run_resumes_without_the_file_that_it_began_with(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    encoder = ["--model.encoder=BagOfWords", "--model.encoder.dim=16", "--model.encoder.embedding_from=vectors.bin"]
    command = ["fit", "--config", "simclr", *small(write_texts(tmp_path)), "--data.tokenizer.kind=word", *encoder]
    assert run(*command, "--run", "a", "--trainer.max_steps=2") == 0, capsys.readouterr().err
    shutil.move("vectors.bin", "gone.bin")
    assert run(*command, "--run", "a", "--trainer.max_steps=4", "--extend") == 0, capsys.readouterr().err
    assert run("validate", "--run", "a") == 0
    assert run(*command, "--run", "b") == 2
    assert "vectors.bin cannot be read" in capsys.readouterr().err
