"""A line of a file is one text, for every command that reads lines: `embed`, `generate`, `score` and `fill-mask`."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, MaskedLM, Method
from ssl_nlp.terminal import say
from ssl_nlp.training.texts import TextsCut
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import run, save_untrained

# What Python's str.splitlines takes for the end of a line, and `wc -l` does not.
NO_ENDS = [
    "a form\x0cfeed",
    "vertical\x0btab",
    "file\x1cseparator",
    "next\u0085line",
    "one\u2028two",
    "p\u2029q",
    "lone\rCR",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(random_texts(60)))


@pytest.fixture(scope="module")
def checkpoints(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[type, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    small = {"size": None, "dim": 16, "layers": 1, "heads": 2, "max_length": 64}
    torch.manual_seed(0)
    return {
        kind: str(save_untrained(kind(Transformer(**small)), tokenizer, folder / f"{kind.__name__}.ckpt"))
        for kind in (MaskedLM, CausalLM)
    }


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def embedded(checkpoint: str, content: bytes) -> np.ndarray:
    """The embeddings that `embed` writes for a file with this content."""
    Path("in.txt").write_bytes(content)
    Path("out.npy").unlink(missing_ok=True)
    assert run("embed", "--checkpoint", checkpoint, "--input", "in.txt", "--output", "out.npy") == 0
    return np.load("out.npy")


def test_a_line_of_the_file_is_a_row(checkpoints):
    checkpoint = checkpoints[MaskedLM]
    texts = ["the dog", "", *NO_ENDS, "  ", "the end"]
    rows = embedded(checkpoint, "".join(f"{text}\n" for text in texts).encode())
    assert len(rows) == len(texts)
    expected = Method.load_from_checkpoint(checkpoint).embed(texts).numpy()
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_byte_order_marks_and_line_ends_are_not_text(checkpoints):
    plain = embedded(checkpoints[MaskedLM], b"the dog\nthe cat\n")
    for same in (b"the dog\nthe cat", b"\xef\xbb\xbfthe dog\nthe cat\n", b"the dog\r\nthe cat\r\n"):
        np.testing.assert_array_equal(embedded(checkpoints[MaskedLM], same), plain)


def test_what_is_cut_is_said(checkpoints, capfd):
    embedded(checkpoints[MaskedLM], b"the dog\n" + b"the dog sees the cat " * 50 + b"\n" + b"a bird " * 200)
    assert capfd.readouterr().err == "ssl-nlp: 2 of 3 texts are longer than the encoder's 64 tokens and are cut\n"


def test_prompts_and_masked_texts_are_lines_too(checkpoints, monkeypatch, capfd):
    prompts = ["the dog", *NO_ENDS, "", "a cat"]
    Path("in.txt").write_bytes("\ufeff".encode() + "\r\n".join(prompts).encode())
    greedy = ["--temperature=0", "--max_new_tokens=20"]
    assert run("generate", "--checkpoint", checkpoints[CausalLM], "--input", "in.txt", *greedy) == 0
    method = CausalLM.load_from_checkpoint(checkpoints[CausalLM])
    answers = method.generate(prompts, 20, temperature=0)
    for prompt, answer in zip(prompts, answers, strict=True):
        say(prompt + answer)  # which escapes what a terminal would act on
    shown = capfd.readouterr().out
    assert shown[: len(shown) // 2] == shown[len(shown) // 2 :]

    lines = b"\xef\xbb\xbfthe [MASK] sees\n\na\xe2\x80\xa8[MASK]\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert run("fill-mask", "--checkpoint", checkpoints[MaskedLM]) == 0
    shown = capfd.readouterr().out.split("\n")
    assert [shown[0], shown[2], shown[3]] == ["the [MASK] sees", "", "a\u2028[MASK]"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "in.txt is empty"),
        (b"\n \n", "in.txt is empty"),
        ("text".encode("utf-16"), "in.txt is UTF-16"),
        (b"a\0b", "NUL byte at offset 1"),
        (b"caf\xe9", "byte 0xe9 at offset 3"),
    ],
)
def test_what_is_not_text_is_refused(checkpoints, content, complaint, capfd):
    Path("in.txt").write_bytes(content)
    assert run("embed", "--checkpoint", checkpoints[MaskedLM], "--input", "in.txt", "--output", "out.npy") == 2
    assert complaint in capfd.readouterr().err
    assert not Path("out.npy").exists()


@pytest.mark.parametrize("pooling", ["mean", "last", "first"])
def test_embed_pools_as_it_is_told(checkpoints, pooling):
    Path("in.txt").write_text("the dog\na cat sees\n")
    files = ["--input", "in.txt", "--output", f"{pooling}.npy"]
    assert run("embed", "--checkpoint", checkpoints[CausalLM], *files, "--pooling", pooling) == 0
    expected = CausalLM.load_from_checkpoint(checkpoints[CausalLM]).embed_all(["the dog", "a cat sees"])[pooling]
    assert np.load(f"{pooling}.npy") == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_sizes_below_one_are_refused(checkpoints, batch_size, capfd):
    Path("in.txt").write_text("a text\n")
    files = ["--input", "in.txt", "--output", "out.npy"]
    assert run("embed", "--checkpoint", checkpoints[MaskedLM], *files, f"--batch_size={batch_size}") == 2
    assert f"batch_size must be 1 or more, not {batch_size}" in capfd.readouterr().err
    assert not Path("out.npy").exists()
    method = MaskedLM.load_from_checkpoint(checkpoints[MaskedLM])
    for ask in (method.embed, method.embed_all, method.score):
        with pytest.raises(UserError, match="batch_size must be 1 or more"):
            ask(["a text"], batch_size=batch_size)


def test_a_single_text_is_not_a_list_of_texts(checkpoints):
    masked = MaskedLM.load_from_checkpoint(checkpoints[MaskedLM])
    causal = CausalLM.load_from_checkpoint(checkpoints[CausalLM])
    for ask in (masked.embed, masked.embed_all, masked.score, causal.score, causal.generate):
        with pytest.raises(UserError, match=r"'abc' is a single text: give a list of texts"):
            ask("abc")
        with pytest.raises(UserError, match="text 1 is of type NoneType"):
            ask(["abc", None])
    with pytest.warns(TextsCut, match="1 of 2 texts"):
        masked.embed(["a", "the dog " * 100])
