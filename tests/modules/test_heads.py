import pytest
import torch
from transformers import ModernBertConfig, ModernBertForTokenClassification

from ssl_nlp.modules.heads import ClassifierHead, LinearHead, TanhHead


@pytest.mark.parametrize("head", [ClassifierHead, LinearHead, TanhHead])
def test_the_last_layer_begins_as_in_modernberts_stock_classes(head):
    config = ModernBertConfig(
        vocab_size=8, hidden_size=384, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_labels=50,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    stock = ModernBertForTokenClassification(config).classifier
    ours = head(384, 50).classifier
    assert ours.weight.std().item() == pytest.approx(stock.weight.std().item(), rel=0.05)
    assert not ours.bias.any()
    assert 0.7 < ours(torch.randn(64, 384)).std().item() < 1.1  # BERT's 0.02 would give 0.39


def test_relations_read_two_states_and_begin_with_logits_of_the_same_size():
    torch.manual_seed(0)
    assert 0.7 < LinearHead(2 * 128, 20)(torch.randn(64, 2 * 128)).std().item() < 1.1
