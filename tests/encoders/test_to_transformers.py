"""The weights of the Transformer in the models of `transformers`: the same hidden states."""

import pytest
import torch
from transformers import ModernBertDecoderModel, ModernBertModel

from ssl_nlp.data.batch import TokenBatch
from tests.encoders.test_attention import KINDS, draw, spread
from tests.encoders.test_transformer import PAD, VOCAB, build


@pytest.mark.parametrize(("causal", "window"), KINDS)
@pytest.mark.parametrize("scale", [1, 5])
def test_same_hidden_states(causal, window, scale):
    encoder = build(causal, window=window, layers=5, max_length=40)
    if scale == 5:
        spread(encoder)
    model = encoder.to_transformers()
    assert isinstance(model, ModernBertDecoderModel if causal else ModernBertModel)
    ids = draw(torch.ones(3, 40))
    with torch.no_grad():
        ours = encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False))
        theirs = model(input_ids=ids).last_hidden_state
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize(("causal", "window"), KINDS)
def test_same_hidden_states_beside_padding(causal, window):
    encoder = spread(build(causal, window=window, layers=5, max_length=20))
    segment_ids = torch.ones(3, 20, dtype=torch.long)
    segment_ids[1, 13:] = 0
    segment_ids[2, 2:] = 0
    ids = draw(segment_ids)
    with torch.no_grad():
        ours = encoder(TokenBatch(ids, segment_ids, packed=False, padded=True))
        theirs = encoder.to_transformers()(input_ids=ids, attention_mask=segment_ids).last_hidden_state
    text = segment_ids > 0
    assert (ours[text] - theirs[text]).abs().max() < 1e-4


def test_other_layers_and_wavelengths():
    encoder = spread(build(False, window=2, global_every=2, layers=4, rope_theta=500.0, hidden=24))
    model = encoder.to_transformers()
    assert model.config.layer_types == ["full_attention", "sliding_attention"] * 2
    ids = draw(torch.ones(2, 30))
    with torch.no_grad():
        ours = encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False))
        assert (ours - model(input_ids=ids).last_hidden_state).abs().max() < 1e-4


@pytest.mark.parametrize("causal", [True, False])
def test_saved_model_reads_back(causal, tmp_path):
    encoder = build(causal, dropout=0.1)
    encoder.to_transformers().save_pretrained(tmp_path)
    kind = ModernBertDecoderModel if causal else ModernBertModel
    model = kind.from_pretrained(tmp_path)
    assert (model.config.vocab_size, model.config.pad_token_id, model.config.mlp_dropout) == (VOCAB, PAD, 0.1)
    ids = draw(torch.ones(2, 10))
    with torch.no_grad():
        ours = encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False))
        assert (ours - model(input_ids=ids).last_hidden_state).abs().max() < 1e-5
