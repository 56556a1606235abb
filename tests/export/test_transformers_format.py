"""`export --format transformers`: stock classes load every method, with the same tokens, states and logits."""

import pytest
import torch

from ssl_nlp.data import TokenBatch
from ssl_nlp.methods import Method
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
