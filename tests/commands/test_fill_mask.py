"""`ssl-nlp fill-mask` for models that fill in whole texts, and for one that ranks tokens beside other abilities."""

import json
import re
from pathlib import Path

import pytest

from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import CausalMaskedLM, MaskedDiffusion
from ssl_nlp.terminal import printable
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import run, save_untrained


def test_each_text_is_printed_as_the_model_fills_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(random_texts(40)))
    method = MaskedDiffusion(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    command = ["fill-mask", "--checkpoint", str(save_untrained(method, tokenizer, Path("a.ckpt")))]
    Path("texts.txt").write_text("the[MASK] dog\n\nthe dog sees[MASK] cat\n")
    capsys.readouterr()
    assert run(*command, "--input=texts.txt") == 0
    written = capsys.readouterr().out
    assert re.fullmatch(r"the.+ dog\n\nthe dog sees.+ cat\n", written, re.DOTALL) and "[MASK]" not in written
    assert run(*command, f"--text=the{'[MASK]' * 9}", "--seed=3", "--steps=2") == 0
    filled = method.infill([f"the{'[MASK]' * 9}"], seed=3, steps=2)
    assert capsys.readouterr().out == printable(f"{filled[0]}\n")
    assert run("generate", *command[1:], "--number=2", "--seed=3", "--steps=1", "--max_new_tokens=9") == 0
    drawn = method.draw(2, 9, seed=3, steps=1, temperature=0.8, top_p=0.95)
    assert capsys.readouterr().out == "".join(printable(f"{text}\n") for text in drawn)
    more = ["--number=2", "--seed=3", "--steps=1", "--max_new_tokens=9", "--jsonl=true"]
    assert run("generate", *command[1:], *more) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"text": text} for text in drawn]
    for text in ("the dog", ""):
        assert run(*command, f"--text={text}") == 2
        assert f"there is no [MASK] in {text!r}: write it where words are missing" in capsys.readouterr().err
    assert run(*command, "--text=a[MASK]", "--top_k=3") == 2
    assert "MaskedDiffusion fills in whole texts and ranks no tokens: leave out --top_k" in capsys.readouterr().err


def test_a_causal_and_masked_model_ranks_the_tokens_of_each_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(random_texts(40)))
    method = CausalMaskedLM(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    checkpoint = str(save_untrained(method, tokenizer, Path("a.ckpt")))
    [best] = method.fill_mask("the dog [MASK]", top_k=2)
    capsys.readouterr()
    assert run("fill-mask", "--checkpoint", checkpoint, "--text=the dog [MASK]", "--top_k=2") == 0
    ranked = "  ".join(f"{token.strip()} {probability:.3f}" for token, probability in best)
    assert capsys.readouterr().out == printable(f"the dog [MASK]\n  {ranked}\n")
    assert run("fill-mask", "--checkpoint", checkpoint, "--text=[MASK]", "--seed=1") == 2
    assert "CausalMaskedLM fills masks without drawing: leave out --seed and --steps" in capsys.readouterr().err
    assert run("generate", "--checkpoint", checkpoint, "--number=1", "--steps=2") == 2
    assert "CausalMaskedLM does not write tokens in random order: leave out --steps" in capsys.readouterr().err
