"""Language models over published models begin with the published head, and are exported with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    ModernBertDecoderConfig,
    Olmo2Config,
    OPTConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from ssl_nlp.commands.models import find_target
from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder
from ssl_nlp.encoders.adapters import LoRA
from ssl_nlp.encoders.language_head import PLACES
from ssl_nlp.export.convert import stock_model
from ssl_nlp.export.tokenizer import save_tokenizer
from ssl_nlp.methods import CausalLM, MaskedLM, Method
from ssl_nlp.objectives.masking import mask_tokens
from ssl_nlp.runs import checkpoint as checkpoints
from tests.corpus import ListCorpus, random_texts
from tests.methods.test_every_method import data, trainer

CORPUS = ListCorpus(random_texts(60))
SIZE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SMALL = SIZE | {"num_key_value_heads": 2}
ENDS: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 2, "cls_token_id": 2, "sep_token_id": 2, "pad_token_id": 1}
MASKED = {
    "bert": (BertConfig, SIZE),
    "bert with relu": (BertConfig, SIZE | {"hidden_act": "relu"}),
    "bert, untied": (BertConfig, SIZE | {"tie_word_embeddings": False}),
    "roberta": (RobertaConfig, SIZE | {"pad_token_id": 1, "layer_norm_eps": 1e-5}),
    "xlm-roberta": (XLMRobertaConfig, SIZE),
    "camembert": (CamembertConfig, SIZE),
    "distilbert": (DistilBertConfig, {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    "electra": (ElectraConfig, SIZE | {"embedding_size": 16}),
    "modernbert": (ModernBertConfig, SIZE | ENDS),
}
CAUSAL = {
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 2, "eos_token_id": 2}),
    "modernbert-decoder": (ModernBertDecoderConfig, SIZE | ENDS),
    "llama, untied": (LlamaConfig, SIZE),
    "llama": (LlamaConfig, SIZE | {"tie_word_embeddings": True}),
    "mistral": (MistralConfig, SMALL),
    "qwen2": (Qwen2Config, SMALL),
    "qwen3": (Qwen3Config, SMALL),
    "olmo2": (Olmo2Config, SIZE),
    "phi": (PhiConfig, SIZE | {"pad_token_id": 1}),
    "gpt_neox": (GPTNeoXConfig, SIZE),
    "opt": (
        OPTConfig,
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "word_embed_proj_dim": 16},
    ),
}
ALL = {**MASKED, **CAUSAL}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    rows = [ids for ids, _ in tokenizer.encode(random_texts(6))]
    return pad_rows([row[:24] for row in rows], None, tokenizer, 32)


def save(family: str, folder: Path, vocab_size: int, head: bool = True) -> Any:
    """A tiny model whose head and norms are not as they are when made, saved as `save_pretrained` does."""
    kind, arguments = ALL[family]
    auto = (AutoModelForCausalLM if family in CAUSAL else AutoModelForMaskedLM) if head else AutoModel
    torch.manual_seed(0)
    model = auto.from_config(kind(vocab_size=vocab_size, **arguments)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


def connected(family: str, folder: Path, tokenizer: Tokenizer, **arguments: Any) -> Any:
    method = (CausalLM if family in CAUSAL else MaskedLM)(PretrainedEncoder(str(folder), **arguments))
    method.connect(tokenizer)
    return method.eval()


def reloaded(method: Method, tmp_path: Path) -> Any:
    saved = {
        "ssl_nlp": {
            "method": json.loads(json.dumps(method.description())),
            "tokenizer": method.tokenizer.serialize(),
            "causal": method.encoder.causal,
        },
        "state_dict": method.state_dict(),
    }
    torch.save(saved, tmp_path / "model.ckpt")
    return type(method).load_from_checkpoint(tmp_path / "model.ckpt")


def test_every_model_whose_head_is_listed_is_tried_here():
    assert {kind.model_type for kind, _ in ALL.values()} == {*PLACES}


@pytest.mark.parametrize("family", ALL)
def test_the_loss_is_that_of_the_published_model_also_from_a_checkpoint_and_once_exported(
    family, tokenizer, batch, tmp_path
):
    theirs = save(family, tmp_path / "model", tokenizer.vocab_size)
    method = connected(family, tmp_path / "model", tokenizer)
    assert not method.encoder.lacks_language_head
    mask = batch.is_text.long()
    with torch.no_grad():
        torch.manual_seed(1)
        ours = method.loss(batch).mean().item()
        torch.manual_seed(1)
        if family in CAUSAL:
            inputs, targets = batch.input_ids, batch.next_ids
        else:
            positions, chosen = method._choose(batch)
            inputs, found = mask_tokens(batch.input_ids, positions, chosen, tokenizer.mask_id, method.replacements)
            targets = torch.full_like(batch.input_ids, -100).flatten()
            targets[positions] = found
        logits = theirs(input_ids=inputs, attention_mask=mask).logits
        expected = cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    assert ours == pytest.approx(expected, abs=1e-5)

    (tmp_path / "model").rename(tmp_path / "gone")
    again = reloaded(method, tmp_path)
    with torch.no_grad():
        torch.manual_seed(1)
        assert again.loss(batch).mean().item() == ours

    stock = stock_model(again)
    assert stock.loads_as == ["AutoModel", "AutoModelForCausalLM" if family in CAUSAL else "AutoModelForMaskedLM"]
    assert stock.left_out == []
    with torch.no_grad():
        stock.model.save_pretrained(tmp_path / "exported")
        exported = type(theirs).from_pretrained(tmp_path / "exported").eval()
        found = exported(input_ids=inputs, attention_mask=mask).logits
    torch.testing.assert_close(found[mask > 0], logits[mask > 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama, untied"])
def test_a_folder_without_a_head_gets_a_new_one_in_the_form_of_the_model(family, tokenizer, batch, tmp_path):
    save(family, tmp_path, tokenizer.vocab_size, head=False)
    method = connected(family, tmp_path, tokenizer)
    tied = family == "gpt2"
    assert method.encoder.lacks_language_head != tied  # a tied output layer without bias is all there
    assert reloaded(method, tmp_path).loss(batch).mean().isfinite()
    assert len(stock_model(method).loads_as) == 2


def test_what_an_older_version_saved_keeps_the_head_that_it_had(tokenizer, batch, tmp_path):
    save("bert", tmp_path, tokenizer.vocab_size)
    method = connected("bert", tmp_path, tokenizer, language_head="own")
    description = method.description()
    assert description["init_args"]["encoder"]["init_args"].pop("language_head") == "own"
    old = checkpoints.instantiate(description, MaskedLM)
    old.connect(tokenizer)
    old.load_state_dict(method.state_dict())
    old.eval()
    assert old.description() == method.description()
    stock = stock_model(old)
    assert stock.loads_as == ["AutoModel"]
    assert stock.left_out[0].startswith("It has no language modelling head: that of BertForMaskedLM has")


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_published_language_model_scores_texts_and_embeds_them_as_its_encoder_does(family, tokenizer, tmp_path):
    theirs = save(family, tmp_path, tokenizer.vocab_size)
    save_tokenizer(tokenizer, tmp_path, 64)
    target, texts = find_target(f"pretrained:{tmp_path}"), random_texts(3)
    plain = Method(PretrainedEncoder(str(tmp_path)))
    plain.causal = target.method.causal
    plain.connect(target.method.tokenizer)
    assert torch.equal(target.method.embed(texts), plain.embed(texts))
    assert target.kind == "PretrainedEncoder"

    assert isinstance(target.method, CausalLM if family in CAUSAL else MaskedLM)
    untrained = target.untrained()
    assert type(untrained) is type(target.method)
    nats = target.method.score(texts).nats
    assert not torch.allclose(untrained.score(texts).nats, nats, rtol=0.01)
    [ids] = [ids for ids, _ in target.method.tokenizer.encode(texts[:1])]
    row = torch.tensor([ids])
    with torch.no_grad():
        if family in CAUSAL:
            one = pad_rows([ids], None, target.method.tokenizer, 64)  # which knows the end of the text as a target
            logits = theirs(input_ids=one.input_ids).logits
            expected = cross_entropy(logits[0], one.next_ids[0], reduction="sum")
        else:
            expected = torch.zeros(())
            for place in target.method.maskable[row[0]].nonzero()[:, 0]:
                masked = row.clone()
                masked[0, place] = target.method.tokenizer.mask_id
                expected -= theirs(input_ids=masked).logits.log_softmax(-1)[0, place, ids[place]]
    assert nats[0].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("head", [True, False])
def test_with_an_adapter_the_head_is_trained_and_only_a_missing_one_is_mentioned(head, tmp_path, capsys):
    save("bert", tmp_path, 320, head)
    method = MaskedLM(PretrainedEncoder(str(tmp_path), adapter=LoRA(rank=2)))
    module = data(method)
    save_tokenizer(module.tokenizer, tmp_path, 64)
    method.connect(module.tokenizer)
    before = {name: weight.clone() for name, weight in method.state_dict().items()}
    run = trainer(tmp_path, 1, limit_val_batches=0)
    run.fit(method, module)
    assert ("have no language modelling head" in capsys.readouterr().out) != head
    changed = {name for name, weight in method.state_dict().items() if not torch.equal(weight, before[name])}
    assert {"head.dense.weight", "head.dense.bias", "head.norm.weight", "head.norm.bias", "head.bias"} <= changed
    assert "encoder.model.embeddings.word_embeddings.weight" not in changed
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt").state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in method.state_dict().items())
