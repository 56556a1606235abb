"""`export --format transformers`: stock classes load every method, with the same tokens, states and logits."""

import pytest
import torch
from transformers import AutoTokenizer

from ssl_nlp.data import TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train
from ssl_nlp.export.tokenizer import save_tokenizer
from ssl_nlp.methods import Method
from tests.corpus import random_texts
from tests.export.conftest import NAMES, OLD, TEXTS

HEADS = {
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    "masked_lm_next": "AutoModelForMaskedLM",
    "multi_objective": "AutoModelForMaskedLM",
}


def method_of(name: str) -> Method:
    return Method.load_from_checkpoint(OLD / name / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_gives_the_same_ids_and_texts(name, loaded):
    tokenizer, found = method_of(name).tokenizer, loaded[f"{name}-transformers"]
    assert found["tokenizer"]["max_length"] == 64
    for text, (ids, _), theirs, mask, decoded in zip(
        TEXTS, tokenizer.encode(TEXTS), found["input_ids"], found["mask"], found["decoded"], strict=True
    ):
        if len(ids) <= 64 and not (name in HEADS and "<s>" in text):  # where masks are written, <s> is read as well
            assert theirs[mask > 0].tolist() == ids
            assert decoded == tokenizer.decode(ids)
        assert set(theirs[mask == 0].tolist()) <= {tokenizer.pad_id}
    assert found["config"]["pad_token_id"] == tokenizer.pad_id


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_stock_classes_give_the_same_states_and_logits(name, loaded):
    method, found = method_of(name), loaded[f"{name}-transformers"]
    ids, mask = found["input_ids"], found["mask"]
    batch = TokenBatch(ids, mask, packed=False)
    states, text = method.states(batch), mask > 0
    torch.testing.assert_close(found["AutoModel"]["last_hidden_state"][text], states[text], rtol=1e-4, atol=1e-4)
    assert (HEADS.get(name) in found) == (name in HEADS)
    if name in HEADS:
        head = method.head if name != "multi_objective" else method.objectives["masked_lm"].head
        torch.testing.assert_close(found[HEADS[name]]["logits"][text], head(states)[text], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "char"])
def test_a_mask_in_a_text_is_read_as_fill_mask_reads_it(kind, tmp_path):
    """A mask stands for a word and the space before it, except where tokens are characters."""
    texts = random_texts(50)
    tokenizer = Tokenizer(train(TokenizerSettings(kind, vocab_size=320), lambda: iter(texts)))
    save_tokenizer(tokenizer, tmp_path, 64, reads_special=True)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the [MASK] sees a cat", "[MASK]", "[MASK] dog [MASK] [MASK] cat", "a[MASK]."):
        assert stock(text.replace("[MASK]", stock.mask_token))["input_ids"] == tokenizer.encode_with_masks(text)
