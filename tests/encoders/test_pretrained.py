"""Models of `transformers` as encoders, each family tiny and with random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    FNetConfig,
    GPT2Config,
    MistralConfig,
    ModernBertConfig,
    ModernBertDecoderConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
)

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import PretrainedEncoder
from ssl_nlp.errors import UserError
from ssl_nlp.runs.ancestry import published

VOCAB = 60
SIZE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
ENDS: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 2, "cls_token_id": 2, "sep_token_id": 2, "pad_token_id": 1}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SIZE, max_position_embeddings=40),
    "roberta": RobertaConfig(**SIZE, max_position_embeddings=42, pad_token_id=1),
    "distilbert": DistilBertConfig(
        vocab_size=VOCAB, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=40
    ),
    "modernbert": ModernBertConfig(**SIZE, **ENDS, max_position_embeddings=40, local_attention=6),
    "gpt2": GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=40, bos_token_id=2, eos_token_id=2
    ),
    "modernbert-decoder": ModernBertDecoderConfig(**SIZE, **ENDS, max_position_embeddings=40, local_attention=6),
    "mistral": MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=3, max_position_embeddings=40),
    "deberta": DebertaV2Config(**SIZE, max_position_embeddings=40),
    "t5": T5Config(vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4),
}
CAUSAL = ("gpt2", "modernbert-decoder", "mistral")
BIDIRECTIONAL = ("bert", "roberta", "distilbert", "modernbert")
SEGMENTS = torch.tensor([[1] * 5 + [2] * 8 + [3] * 3 + [0] * 4, [1] * 11 + [2] * 9])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory for each family, as `save_pretrained` makes it."""
    torch.manual_seed(0)
    paths = {}
    for name, config in CONFIGS.items():
        paths[name] = tmp_path_factory.mktemp(name)
        AutoModel.from_config(config).save_pretrained(paths[name])
    return paths


def encoder_of(path: Path, causal: bool, **arguments) -> PretrainedEncoder:
    encoder = PretrainedEncoder(str(path), **arguments)
    encoder.build(VOCAB, 1, causal)
    return encoder.eval()


def draw(segment_ids: torch.Tensor) -> torch.Tensor:
    ids = torch.randint(5, VOCAB, segment_ids.shape, generator=torch.Generator().manual_seed(2))
    return torch.where(segment_ids > 0, ids, 1)


@pytest.mark.parametrize("family", [*BIDIRECTIONAL, *CAUSAL])
@pytest.mark.parametrize("padded", [True, False])
def test_equals_the_plain_model(saved, family, padded):
    encoder = encoder_of(saved[family], family in CAUSAL)
    model = AutoModel.from_pretrained(saved[family]).eval()
    mask = torch.ones(2, 12, dtype=torch.long)
    if padded:
        mask[1, 7:] = 0
    ids = draw(mask)
    with torch.no_grad():
        ours = encoder(TokenBatch(ids, mask, packed=False, padded=padded))
        theirs = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert ours.shape == (2, 12, encoder.dim)
    assert torch.equal(ours[mask > 0], theirs[mask > 0])


@pytest.mark.parametrize("family", [*BIDIRECTIONAL, *CAUSAL])
def test_packed_documents_are_the_documents_alone(saved, family):
    encoder = encoder_of(saved[family], family in CAUSAL)
    ids = draw(SEGMENTS)
    with torch.no_grad():
        states = encoder(TokenBatch(ids, SEGMENTS))
        assert states.isfinite().all()
        for row in range(len(SEGMENTS)):
            for document in range(1, int(SEGMENTS[row].max()) + 1):
                place = SEGMENTS[row] == document
                text = ids[row, place][None]
                alone = encoder(TokenBatch(text, torch.ones_like(text), packed=False, padded=False))
                torch.testing.assert_close(states[row, place], alone[0], atol=1e-5, rtol=1e-5)


def test_a_family_without_packing(saved):
    encoder = encoder_of(saved["deberta"], causal=False)
    ids = draw(SEGMENTS)
    assert encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)).isfinite().all()
    with pytest.raises(UserError, match="cannot keep documents .* apart: set data.unit to sentence"):
        encoder(TokenBatch(ids, SEGMENTS))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_family_that_ignores_the_mask_is_found_out(saved, family, monkeypatch):
    def everything(self, config, batch):
        return torch.ones(1, 1, 6, 6, dtype=torch.bool)

    monkeypatch.setattr(PretrainedEncoder, "_packed_masks", everything)
    with pytest.raises(UserError, match="cannot keep documents"):
        encoder_of(saved[family], family in CAUSAL)(TokenBatch(draw(SEGMENTS), SEGMENTS))


def test_a_family_without_any_mask(tmp_path):
    config = FNetConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot tell padding from text"):
        encoder_of(tmp_path, causal=False)


@pytest.mark.parametrize("family", [*BIDIRECTIONAL, *CAUSAL])
def test_every_parameter_gets_a_gradient(saved, family):
    """Distributed training refuses the others; a pooler would be one."""
    encoder = encoder_of(saved[family], family in CAUSAL)
    ids = draw(SEGMENTS)
    (encoder(TokenBatch(ids, SEGMENTS)) * torch.randn(2, 20, 32)).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("family", CAUSAL)
def test_cached_states_are_the_states(saved, family):
    encoder = encoder_of(saved[family], causal=True)
    ids = draw(torch.ones(2, 12))
    ones = torch.ones_like(ids)
    with torch.no_grad():
        whole = encoder(TokenBatch(ids, ones, packed=False, padded=False))
        cache = encoder.new_cache(2, 12)
        parts = zip(ids.split((6, 1, 1, 4), dim=1), ones.split((6, 1, 1, 4), dim=1), strict=True)
        states = [encoder(TokenBatch(*part, packed=False, padded=False), cache) for part in parts]
    torch.testing.assert_close(torch.cat(states, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", CAUSAL)
def test_cached_rows_of_unequal_length(saved, family):
    encoder = encoder_of(saved[family], causal=True)
    text = draw(torch.ones(1, 9))
    padding = torch.zeros(1, 3, dtype=torch.long)
    ids, segment_ids = torch.cat((padding + 1, text), dim=1), torch.cat((padding, torch.ones_like(text)), dim=1)
    with torch.no_grad():
        alone = encoder(TokenBatch(text, torch.ones_like(text), packed=False, padded=False))
        cache = encoder.new_cache(1, 12)
        states = [encoder(TokenBatch(ids[:, :7], segment_ids[:, :7]), cache)]
        for at in range(7, 12):
            step = TokenBatch(ids[:, at : at + 1], segment_ids[:, at : at + 1], packed=False, padded=False)
            states.append(encoder(step, cache))
    torch.testing.assert_close(torch.cat(states, dim=1)[:, 3:], alone, atol=1e-5, rtol=1e-5)


def test_cache_errors(saved):
    with pytest.raises(UserError, match="cannot continue a text"):
        encoder_of(saved["bert"], causal=False).new_cache(1, 8)
    encoder = encoder_of(saved["gpt2"], causal=True)
    with pytest.raises(UserError, match="max_length of 40"):
        encoder.new_cache(1, 41)
    ids = draw(SEGMENTS)
    with pytest.raises(ValueError, match="padded on the left"):
        encoder(TokenBatch(ids, SEGMENTS.clamp(max=1), packed=False), encoder.new_cache(2, 20))
    with pytest.raises(ValueError, match="one document in each row"):
        encoder(TokenBatch(ids, SEGMENTS), encoder.new_cache(2, 20))


@pytest.mark.parametrize("family", [*BIDIRECTIONAL, *CAUSAL])
def test_wrong_causality(saved, family):
    causal = family in CAUSAL
    needed, found = ("bidirectional", "causal") if causal else ("causal", "bidirectional")
    with pytest.raises(UserError, match=f"needs a {needed} encoder, and .* is {found}"):
        encoder_of(saved[family], not causal)


def test_a_bert_made_a_decoder_is_causal(saved, tmp_path):
    AutoModel.from_config(BertConfig(**SIZE, is_decoder=True), add_pooling_layer=False).save_pretrained(tmp_path)
    assert encoder_of(tmp_path, causal=True).causal


@pytest.mark.parametrize("family", [*BIDIRECTIONAL, *CAUSAL])
def test_checkpoint_needs_no_files(saved, family, tmp_path):
    """Constructor arguments and weights are enough, and the arguments are plain data."""
    causal = family in CAUSAL
    encoder = encoder_of(saved[family], causal, dropout=0.2)
    arguments = json.loads(json.dumps(encoder.hparams()))
    again = PretrainedEncoder(**arguments | {"name": "gone"})
    again.build(VOCAB, 1, causal)
    again.load_state_dict(encoder.state_dict())
    ids = draw(SEGMENTS)
    with torch.no_grad():
        assert torch.equal(again.eval()(TokenBatch(ids, SEGMENTS)), encoder(TokenBatch(ids, SEGMENTS)))
    assert again.hparams() | {"name": ""} == encoder.hparams() | {"name": ""}
    assert (again.dim, again.max_length) == (encoder.dim, encoder.max_length)


def test_hparams_before_build_are_the_arguments():
    arguments = {"name": "some/model", "dropout": 0.1, "config": None, "freeze": None, "adapter": None}
    assert PretrainedEncoder("some/model", 0.1).hparams() == arguments | {"language_head": None}


@pytest.mark.parametrize(("family", "length"), [("bert", 40), ("roberta", 40), ("gpt2", 40)])
def test_longest_row(saved, family, length):
    """RoBERTa has 42 places for 40 positions."""
    encoder = encoder_of(saved[family], family in CAUSAL)
    assert encoder.max_length == length
    ids = draw(torch.ones(1, length + 1))
    ones = torch.ones_like(ids)
    assert encoder(TokenBatch(ids[:, :length], ones[:, :length])).isfinite().all()
    with pytest.raises(UserError, match=f"{length + 1} tokens is longer than .* {length}"):
        encoder(TokenBatch(ids, ones))


def test_dropout(saved):
    """In training mode once it is built, although `from_pretrained` gives a model for evaluation."""
    encoder = PretrainedEncoder(str(saved["bert"]), dropout=0.3)
    encoder.build(VOCAB, 1, causal=False)
    assert all(module.training for module in encoder.modules())
    assert {module.p for module in encoder.modules() if isinstance(module, nn.Dropout)} == {0.3}
    ids = draw(torch.ones(1, 8))
    batch = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)
    assert not torch.equal(encoder(batch), encoder(batch))
    published = encoder_of(saved["bert"], causal=False)
    assert {module.p for module in published.modules() if isinstance(module, nn.Dropout)} == {0.1}


def test_vocabulary(saved):
    encoder = PretrainedEncoder(str(saved["bert"]))
    with pytest.raises(UserError, match="has 61 tokens, but the encoder .* knows 60"):
        encoder.build(VOCAB + 1, 1, causal=False)
    assert encoder_of(saved["bert"], causal=False).embedding.weight.shape == (VOCAB, 32)


def test_tokenizer_comes_along(saved):
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "a", "b", "c"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(saved["bert"])
    encoder = PretrainedEncoder(str(saved["bert"]))
    assert encoder.tokenizer_name is not None
    loaded = AutoTokenizer.from_pretrained(encoder.tokenizer_name)
    encoder.build(len(loaded), loaded.pad_token_id, causal=False)
    ids = torch.tensor([loaded("c a b")["input_ids"]])
    assert ids.tolist() == [[4, 2, 3]]
    assert encoder(TokenBatch(ids, torch.ones_like(ids))).shape == (1, 3, 32)


def test_what_is_not_there(tmp_path):
    for name in ("nobody/nothing", str(tmp_path), str(tmp_path / "nowhere")):
        with pytest.raises(UserError, match="cannot load the encoder .*the path of a directory") as error:
            PretrainedEncoder(name).build(VOCAB, 1, causal=False)
        assert "\n" not in str(error.value)


def test_what_is_broken(saved, tmp_path):
    (tmp_path / "config.json").write_text((saved["bert"] / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot load the encoder"):
        PretrainedEncoder(str(tmp_path)).build(VOCAB, 1, causal=False)


def test_weights_that_are_missing(saved, tmp_path):
    """Random weights in their place would pass unnoticed."""
    model = AutoModel.from_pretrained(saved["bert"])
    weights = {name: w for name, w in model.state_dict().items() if "layer.2.attention" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(UserError, match="incomplete: its files lack encoder.layer.2.attention"):
        PretrainedEncoder(str(tmp_path)).build(VOCAB, 1, causal=False)


def test_an_encoder_decoder(saved):
    with pytest.raises(UserError, match="is an encoder-decoder"):
        encoder_of(saved["t5"], causal=False)


def test_untrained_it_has_the_architecture_and_nothing_that_was_learned(saved):
    trained, untrained = (encoder_of(saved["bert"], causal=False, untrained=given) for given in (False, True))
    assert (trained.ancestry, untrained.ancestry) == ((published(str(saved["bert"])),), ())
    assert untrained.published_base() is None and (trained.pretrained, untrained.pretrained) == (True, False)
    assert untrained.hparams()["config"] == trained.hparams()["config"]
    weights = untrained.state_dict()
    assert {name: weight.shape for name, weight in trained.state_dict().items()} == {
        name: weight.shape for name, weight in weights.items()
    }
    assert not torch.equal(untrained.embedding.weight, trained.embedding.weight)


def test_dropout_out_of_range():
    with pytest.raises(UserError, match="dropout must be at least 0 and less than 1, not 1.5"):
        PretrainedEncoder("some/model", dropout=1.5)
