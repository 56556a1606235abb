"""`ssl-nlp score`: a line of JSON for each text."""

import json
import math
from pathlib import Path

import pytest
import torch

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import CausalLM, CausalMaskedLM, MaskedDiffusion, MaskedLM, Method, SimCLR
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import run, run_process, save_untrained

TEXTS = ["the dog sees a cat", "", "ein Würfel", "a bird"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(random_texts(40)))


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("".join(f"{text}\n" for text in TEXTS))


def scored(kind: type[Method], tokenizer: Tokenizer, max_length: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Let the command score the texts, check its lines against the method's scores, and return standard error."""
    torch.manual_seed(0)
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=max_length)
    checkpoint = str(save_untrained(kind(encoder), tokenizer, Path("a.ckpt")))
    capsys.readouterr()
    assert run("score", "--checkpoint", checkpoint, "--input", "texts.txt") == 0
    out, err = capsys.readouterr()
    scores = kind.load_from_checkpoint(checkpoint).score(TEXTS)
    errors = [None] * len(TEXTS) if scores.variances is None else scores.variances.sqrt().tolist()
    for text, line, error, *numbers in zip(
        TEXTS, out.splitlines(), errors, scores.nats, scores.targets, scores.all_targets, strict=True
    ):
        nats, tokens, all_tokens = map(float, numbers)
        found = json.loads(line)
        assert (found["nats"], found["tokens"], found["kind"]) == (pytest.approx(nats), tokens, scores.kind)
        assert found.get("nats_se") == (None if error is None else pytest.approx(error))
        whole = nats * all_tokens / max(tokens, 1)
        assert found["bits_per_byte"] == (pytest.approx(whole / math.log(2) / len(text.encode())) if text else None)
    return err


@pytest.mark.parametrize("kind", [CausalLM, MaskedLM, MaskedDiffusion])
def test_a_line_holds_the_score_of_its_text(kind, tokenizer, capsys):
    assert scored(kind, tokenizer, 64, capsys) == ""


def test_bits_per_byte_include_the_spelling_of_unknown_words(capsys):
    few = get_tokenizer(TokenizerSettings("word", vocab_size=320), ListCorpus(["a bird"] * 9))
    checkpoint = str(save_untrained(CausalLM(Transformer(size=None, dim=16, layers=1, heads=2)), few, Path("a.ckpt")))
    capsys.readouterr()
    assert run("score", "--checkpoint", checkpoint, "--input", "texts.txt") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for text, line, symbols in ((TEXTS[2], lines[2], len("einWürfel".encode()) + 2), (TEXTS[3], lines[3], 0)):
        bits = (line["nats"] + symbols * math.log(257)) / math.log(2)
        assert line["bits_per_byte"] == pytest.approx(bits / len(text.encode()))


def test_a_model_that_gives_several_kinds_is_asked_for_one(tokenizer, capsys):
    encoders = [Transformer(size=None, dim=16, layers=1, heads=2, max_length=64) for _ in range(2)]
    for kind, encoder in zip((CausalMaskedLM, CausalLM), encoders, strict=True):
        save_untrained(kind(encoder), tokenizer, Path(f"{kind.__name__}.ckpt"))
    command = ["score", "--input=texts.txt", "--kind=pseudo-likelihood"]
    assert run(*command, "--checkpoint=CausalMaskedLM.ckpt") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scores = CausalMaskedLM.load_from_checkpoint("CausalMaskedLM.ckpt").score(TEXTS, kind="pseudo-likelihood")
    assert [line["nats"] for line in lines] == pytest.approx(scores.nats.tolist())
    assert {line["kind"] for line in lines} == {"pseudo-likelihood"}
    assert run(*command, "--checkpoint=CausalLM.ckpt") == 2
    assert "CausalLM gives a likelihood: leave out --kind" in capsys.readouterr().err
    assert run("score", "--input=texts.txt", "--kind=bound", "--checkpoint=CausalMaskedLM.ckpt") == 2
    assert "kind 'bound' is not one of likelihood, pseudo-likelihood" in capsys.readouterr().err


@pytest.mark.slow
def test_a_new_process_knows_the_class_of_a_checkpoint(tokenizer, tmp_path):
    """In the process of the tests every class is loaded."""
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
    save_untrained(CausalLM(encoder), tokenizer, Path("a.ckpt"))
    done = run_process("score", "--checkpoint=a.ckpt", "--input=texts.txt", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("\n")) == (0, len(TEXTS)), done.stderr


def test_texts_that_are_too_long_are_said_to_be(tokenizer, capsys):
    assert "2 of 4 texts are longer than the model reads" in scored(CausalLM, tokenizer, 4, capsys)
    bare = Tokenizer(tokenizer.serialize().replace('"prefix": [2], "suffix": []', '"prefix": [], "suffix": [2]'))
    assert scored(CausalLM, bare, 64, capsys) == ""  # although it cannot predict the first token


def test_a_method_without_a_likelihood_is_refused(tokenizer, capsys):
    checkpoint = str(
        save_untrained(SimCLR(Transformer(size=None, dim=16, layers=1, heads=2)), tokenizer, Path("a.ckpt"))
    )
    assert run("score", "--checkpoint", checkpoint, "--input", "texts.txt") == 2
    assert "a.ckpt: SimCLR gives no likelihood of a text: use a run of a language model" in capsys.readouterr().err
