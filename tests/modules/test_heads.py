import pytest
import torch
from transformers import ModernBertConfig, ModernBertForTokenClassification

from ssl_nlp.encoders.language_head import HeadLayers
from ssl_nlp.modules.heads import ClassifierHead, LanguageModelHead, LinearHead, TanhHead


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


@pytest.mark.parametrize("bias", [False, True])
def test_contexts_that_are_independent_given_the_token_are_joined_exactly(bias):
    """In a Markov chain, a token between two others has the probability that the sum over all chains gives it.

    State 0 ends a text and begins the next one, so it never stands between two tokens of one.
    """
    torch.manual_seed(0)
    size = 5
    moves = torch.randn(size, size, dtype=torch.float64).softmax(1)  # [a, b]: p(b follows a)
    prior = torch.linalg.matrix_power(moves, 200)[0]  # of the stationary chain
    forward, backward = moves.log(), (prior[:, None] * moves / prior).T.log()  # [b, a] of the second: p(a precedes b)
    embedding = torch.nn.Embedding.from_pretrained(torch.eye(size, dtype=torch.float64))
    offset = torch.randn(size, dtype=torch.float64) if bias else None
    head = LanguageModelHead(size, embedding, HeadLayers(None, torch.nn.Identity(), None, None, offset))
    taken = 0 if offset is None else offset  # so that the logits are the logarithms above
    states = torch.arange(size)
    first, token, last = (part.flatten() for part in torch.meshgrid(states, states[1:], states, indexing="ij"))
    left, right = forward[first] - taken, backward[last] - taken
    possible = states > 0
    whole = moves[first, token] * moves[token, last]
    expected = -(whole / whole.view(size, size - 1, size).sum(1)[first, last]).log()
    from_left = -(moves[first, token] / moves[first, 1:].sum(1)).log()
    both = torch.ones(len(token), dtype=torch.bool)
    none = ~both

    def joined(left_known, right_known):
        return head.joint_losses([(left, left_known), (right, right_known)], prior.log() + 3, possible, token)

    assert torch.allclose(joined(both, both), expected)
    # A context that is missing says nothing, whatever stands in its place; without any, the prior is left.
    assert torch.allclose(joined(both, none), from_left)
    assert torch.allclose(joined(none, none), -(prior[token] / prior[1:].sum()).log())
    assert torch.allclose(joined(both, token > 2), torch.where(token > 2, expected, from_left))
