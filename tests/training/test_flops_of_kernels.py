import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import BagOfWords, Recurrent, Transformer
from ssl_nlp.encoders.adapters import PromptTuning
from ssl_nlp.methods import (
    ARAE,
    CBOW,
    VAE,
    BidirectionalLM,
    CausalLM,
    MaskedDiffusion,
    MaskedLM,
    SimCLR,
    SkipGram,
    TextInfilling,
)
from ssl_nlp.objectives import cross_entropy
from ssl_nlp.training.flops import (
    _MORE_FLOPS,
    _recurrent_flops,
    estimated_flops,
    forward_flops,
    training_cost,
)
from tests.training.small_data import small_data
from tests.training.states import States


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize(("causal", "separate"), [(True, False), (False, False), (False, True)])
def test_flops_of_recurrent_layers_are_those_of_their_products(kind, causal, separate):
    data = small_data(unit="sentence", length=16)
    method = States(Recurrent(kind, dim=16, embedding_dim=12, max_length=64, separate=separate))
    method.causal = causal
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    matrices = sum(
        w.numel() for name, w in method.encoder.named_parameters() if "weight_ih" in name or "weight_hh" in name
    )
    assert forward_flops(method, batch) == 2 * batch.n_tokens * matrices
    shapes = [list(w.shape) for layer in method.encoder.layers for w in layer.parameters()]
    assert _recurrent_flops([batch.n_tokens, 12], shapes) == 2 * batch.n_tokens * matrices


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_flops_of_recurrent_layers_do_not_depend_on_the_kernel_that_texts_of_equal_length_get(kind):
    data = small_data(length=16)
    method = States(Recurrent(kind, dim=16, embedding_dim=12, layers=2, max_length=64))
    method.causal = False
    method.connect(data.tokenizer)
    batch = pad_rows([[5, 6, 7, 8, 9, 10]] * 4, None, data.tokenizer, 16)
    matrices = sum(
        w.numel() for name, w in method.encoder.named_parameters() if "weight_ih" in name or "weight_hh" in name
    )
    assert forward_flops(method, batch) == 2 * batch.n_tokens * matrices
    # Some kernels spare the gradient of the first state.
    assert training_cost(method, batch).flops == pytest.approx(3 * 2 * batch.n_tokens * matrices, rel=0.03)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_flops_of_an_output_layer_do_not_depend_on_how_its_loss_is_computed(precision, monkeypatch):
    """Many logits are computed in blocks, which add the weights' gradient in place. The bias's is a product, too."""
    data = small_data(unit="block")
    batch, found = next(iter(data.val_dataloader())), []
    for small, block in ((2**20, 2**22), (0, 2**10)):
        monkeypatch.setattr(cross_entropy, "SMALL", small)
        monkeypatch.setattr(cross_entropy, "CPU_BLOCK", block)
        method = CausalLM(Transformer(size=None, dim=16, layers=1, heads=2, hidden=32, max_length=64))
        method.connect(data.tokenizer)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            found.append(training_cost(method, batch).flops)
    assert found[1] == found[0] + 2 * batch.input_ids.numel() * method.vocab_size


class UnknownProducts(TorchDispatchMode):
    """Lists the kernels with matrix products whose FLOPs are not known."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kernel = func.overloadpacket
        if re.search("(mm|mv|dot)_?$|rnn|lstm|gru|conv|attention", str(kernel)) and kernel not in {
            *flop_registry,
            *_MORE_FLOPS,
        }:
            self.names.add(str(kernel))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "method",
    [
        CausalLM(),
        MaskedLM(),
        MaskedDiffusion(),
        BidirectionalLM(Recurrent(separate=True, dim=32, max_length=64)),
        TextInfilling(decoder_layers=1),
        VAE(latent_dim=8, decoder_layers=1, decoder_kind="lstm"),
        VAE(latent_dim=8, decoder_layers=1, decoder_kind="gru"),
        ARAE(latent_dim=8, width=16, decoder_layers=1),
        SimCLR(),
        SkipGram(BagOfWords(dim=10)),
        CBOW(BagOfWords(dim=10)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_every_product_of_a_training_is_one_whose_flops_are_known(method, monkeypatch):
    monkeypatch.setattr(cross_entropy, "SMALL", 0)
    monkeypatch.setattr(cross_entropy, "CPU_BLOCK", 2**10)
    data = small_data(unit="sentence", length=16)
    if not hasattr(method, "encoder"):
        method.encoder = Transformer(size=None, dim=32, layers=1, heads=2, max_length=64)
    method.connect(data.tokenizer)
    for batch in (next(iter(data.val_dataloader())), pad_rows([[5, 6, 7, 8, 9, 10]] * 4, None, data.tokenizer, 16)):
        with UnknownProducts() as unknown:
            training_cost(method.train(), batch)
        assert not unknown.names


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("frozen", [{}, {"freeze": "embeddings"}, {"freeze": 1}, {"adapter": PromptTuning(2)}], ids=str)
def test_flops_of_training_a_recurrent_encoder_are_those_that_backward_passes_do(frozen, causal):
    data = small_data(unit="sentence", length=16)
    method = States(Recurrent(dim=32, layers=2, max_length=64, **frozen))
    method.causal = causal
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)
    with counter:
        method.loss(batch).terms["states"].total.backward()
    assert training_cost(method, batch).flops == counter.get_total_flops()
    # Of two cells in a layer, the second one counts as if it came after the first.
    assert estimated_flops(method, batch) == pytest.approx(counter.get_total_flops(), rel=0.05 if causal else 0.12)


def test_flops_of_two_directions_are_those_of_their_cells_and_of_two_output_layers():
    data = small_data(length=16)
    method = BidirectionalLM(Recurrent(separate=True, dim=32, embedding_dim=12, max_length=64))
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    cells = sum(w.numel() for name, w in method.encoder.named_parameters() if re.search("weight_[ih]h", name))
    head = 16 * 12 + 12 * method.vocab_size  # to the width of the embedding, and to the vocabulary
    forward = 2 * (batch.n_tokens * cells + 2 * batch.input_ids.numel() * head)
    assert training_cost(method, batch).flops == pytest.approx(3 * forward, rel=0.02)
