import re

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import BagOfWords, Recurrent, Transformer
from ssl_nlp.encoders.adapters import IA3, AdaLoRA, LoRA, PromptTuning
from ssl_nlp.methods import (
    ARAE,
    CBOW,
    VAE,
    Autoencoder,
    BidirectionalLM,
    CausalLM,
    CausalMaskedLM,
    GloVe,
    MaskedDiffusion,
    MaskedLM,
    Method,
    MoCo,
    MultiObjective,
    Player,
    Ramp,
    ReplacedToken,
    SimCLR,
    SkipGram,
    TextInfilling,
)
from ssl_nlp.methods.word_vectors.windowed import BLOCK, SHARED
from ssl_nlp.objectives import cross_entropy
from ssl_nlp.objectives.views import Repeat
from ssl_nlp.training.flops import (
    _MORE_FLOPS,
    _recurrent_flops,
    cost_per_token,
    estimated_flops,
    forward_flops,
    training_cost,
)
from ssl_nlp.training.module import Module
from ssl_nlp.training.sums import Loss, Term
from tests.corpus import ListCorpus, random_texts
from tests.training.small_data import CORPUS, small_data, small_trainer


def test_flops_are_those_of_the_matrix_products_and_counting_leaves_no_trace():
    data = small_data(unit="block")
    method = CausalLM(Transformer(size=None, dim=16, layers=2, heads=2, hidden=32, max_length=64))
    method.connect(data.tokenizer)
    batch = data._loader("train").dataset[range(4)]
    state = torch.get_rng_state()
    counted = forward_flops(method, batch)
    assert torch.equal(state, torch.get_rng_state())
    rows, length, dim, hidden, vocabulary = 4, 64, 16, 32, data.tokenizer.vocab_size
    products = 2 * (4 * dim * dim + 3 * dim * hidden) + dim * dim + dim * vocabulary
    attention = 2 * 2 * length * dim
    assert counted == pytest.approx(2 * rows * length * (products + attention), rel=0.01)


class States(Method):
    """A method whose loss is the sum of the encoder's states."""

    def loss(self, batch):
        states = self.encoder(batch)
        return Loss({"states": Term(states.sum(), torch.tensor(len(states)))})


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


@pytest.mark.parametrize(
    "frozen",
    [
        {},
        {"freeze": "embeddings"},
        {"freeze": 1},
        {"adapter": LoRA(rank=2)},
        {"adapter": LoRA(rank=2, targets=["mlp.Wo"])},
        {"adapter": IA3()},
        {"adapter": PromptTuning(2)},
    ],
    ids=str,
)
def test_flops_of_a_training_are_those_that_backward_passes_do(frozen):
    data = small_data(unit="sentence", length=16)
    method = States(Transformer(size=None, dim=64, layers=2, heads=2, hidden=128, max_length=64, **frozen))
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        method.loss(batch).terms["states"].total.backward()
    with sdpa_kernel(SDPBackend.MATH):
        assert training_cost(method, batch).flops == counter.get_total_flops()
        assert estimated_flops(method, batch) == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert training_cost(method, batch).flops == pytest.approx(
        counter.get_total_flops(), rel=0.05
    )  # by the kernel for CPUs
    assert not [part for part in method.modules() if part._forward_hooks and part is not method.encoder]


class Turns(Method):
    """A critic reads states without a gradient in each step, and the encoder learns from it in every third one."""

    def build(self):
        self.critic = torch.nn.Linear(self.encoder.dim, 1, bias=False)

    def players(self):
        critic = Player(self.critic, self.optimization, ("critic",))
        return {"encoder": Player(self.encoder, self.optimization, ("encoder",), every=3), "critic": critic}

    def loss(self, batch):
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.acts("encoder")):
            states = self.encoder(batch)
        rows = torch.tensor(len(batch))
        terms = {"critic": Term(self.critic(states.detach()).sum(), rows)}
        return Loss(terms | ({"encoder": Term(self.critic(states).sum(), rows)} if self.acts("encoder") else {}))


def test_flops_of_players_are_those_of_the_steps_in_which_they_act():
    data = small_data(unit="sentence", length=16)
    encoders = [Transformer(size=None, dim=16, layers=1, heads=2, max_length=64) for _ in range(2)]
    states, turns = States(encoders[0]), Turns(encoders[1])
    for method in (states, turns):
        method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    forward, critic = forward_flops(states, batch), 2 * 16 * batch.input_ids.numel()
    # Two times of three, a pass of the encoder, and both of the critic; the third time, also the one back through both.
    expected = ((forward + 2 * critic) * 2 + 3 * forward + 2 * critic + 2 * critic) / 3
    assert training_cost(turns, batch).flops == pytest.approx(expected, rel=0.02)
    assert turns.acts("encoder") and all(p.grad is None for p in turns.parameters())


@pytest.mark.parametrize(
    ("kind", "setting", "ramp", "values"),
    [
        (MaskedDiffusion, "max_masking_rate", Ramp(0.2, 1.0, steps=0.5), (0.4, 0.8, 1.0, 1.0)),
        (CausalMaskedLM, "masking_rate", Ramp(0.6, 0.2, steps=200), (0.5, 0.3, 0.2, 0.2)),
    ],
)
def test_flops_where_a_setting_changes_are_those_of_a_step_on_average(monkeypatch, kind, setting, ramp, values):
    data = small_data(unit="block", length=64)
    batch = next(iter(data.val_dataloader()))

    def flops(value):
        torch.manual_seed(0)
        encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
        method = MultiObjective(encoder, objectives=[kind(**{setting: value})])
        method.connect(data.tokenizer)
        return training_cost(method.train(), batch).flops

    costs = [flops(value) for value in values]
    assert len(set(costs)) == 3
    monkeypatch.setattr(Module, "total_steps", 400)
    assert flops(ramp) == pytest.approx(sum(costs) / 4)


def test_flops_of_an_adversarial_training_are_those_that_torch_counts_in_it(tmp_path):
    """All of them, in the six steps after which its players act as before, on one batch again and again."""
    data = small_data(unit="sentence", length=16)
    data.workers = 0
    method = ARAE(
        Transformer(size=None, dim=32, layers=1, heads=2, max_length=64),
        latent_dim=8, width=16, decoder_layers=1, autoencoder_every=2, generator_every=3,
    )  # fmt: skip
    method.connect(data.tokenizer)
    batch = data._loader("train").dataset[range(4)]
    expected = training_cost(method, batch).flops
    run = small_trainer(default_root_dir=tmp_path, max_steps=6)
    with FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS) as counter:
        run.fit(method, DataLoader([batch] * 6, batch_size=None))
    assert counter.get_total_flops() == 6 * expected


def test_flops_of_an_adapters_penalty_count():
    data = small_data(unit="sentence", length=16)
    for adapter in (LoRA(rank=3, targets=["mlp.Wo"]), AdaLoRA(rank=1, initial_rank=3, targets=["mlp.Wo"])):
        encoder = Transformer(size=None, dim=64, layers=2, heads=2, hidden=128, max_length=64, adapter=adapter)
        method = States(encoder)
        method.connect(data.tokenizer)
        batch = next(iter(data.val_dataloader()))
        with FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS) as counter:
            loss, penalty = method.loss(batch).mean(), method.encoder.penalty()
            (loss if penalty is None else loss + penalty).backward()
        assert training_cost(method, batch).flops == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        method.encoder.penalty().backward()
    assert counter.get_total_flops() > 0


def test_flops_without_a_gradient_and_of_measurements_do_not_count_as_trained():
    """The key encoder of MoCo has no backward pass, and the cosine of gradients is measured in few of the steps only."""
    data = small_data(unit="sentence", length=16)
    found = {}
    for name, method in {
        "simclr": SimCLR(views=[Repeat(0.2)]),
        "moco": MoCo(views=[Repeat(0.2)], queue=8),
        "together": MultiObjective(objectives=[CausalLM(), CausalLM()]),
        "measured": MultiObjective(objectives=[CausalLM(), CausalLM()], gradient_cosine_every=100),
    }.items():
        method.encoder = Transformer(size=None, dim=32, layers=2, heads=2, max_length=64, dropout=0.1)
        method.connect(data.tokenizer)
        found[name] = training_cost(method.train(), next(iter(data.val_dataloader()))).flops
    assert found["moco"] == pytest.approx(4 / 6 * found["simclr"], rel=0.1)
    assert found["measured"] == found["together"]


@pytest.mark.parametrize(
    "method", [CausalLM(), MaskedLM(), SimCLR(views=[Repeat(0.2)])], ids=lambda one: type(one).__name__
)
def test_a_few_batches_tell_what_tokens_of_all_cost(method):
    texts = random_texts(1200, longest=6) + random_texts(200, seed=1, longest=30)
    data = TextDataModule(
        ListCorpus(texts), TokenizerSettings(vocab_size=320), "sentence", length=64, batch_size=32, seed=0
    )
    method.encoder = Transformer(size=None, dim=32, layers=1, heads=2, max_length=64, dropout=0.1)
    method.connect(data.tokenizer)
    method.train()
    torch.manual_seed(0)
    batches = [*data.train_dataloader()]
    costs = [training_cost(method, batch) for batch in batches]
    tokens = sum(batch.all_tokens for batch in batches)
    flops, reads = (sum(numbers) / tokens for numbers in zip(*costs, strict=True))
    few = cost_per_token(method, batches)
    assert few.flops == pytest.approx(flops, rel=0.01)
    assert few.reads == pytest.approx(reads, rel=0.02)
    smallest = min(batches, key=lambda batch: batch.all_positions)
    assert cost_per_token(method, [smallest]).flops != pytest.approx(flops, rel=0.03)


SAME = {"views": []}  # told apart by dropout alone: the text stays as it is


@pytest.mark.parametrize(
    ("method", "reads"),
    [
        (CausalLM(), 1),
        (MaskedDiffusion(), 1),
        (SimCLR(**SAME), 2),
        (MoCo(queue=8, **SAME), 2),
        (ReplacedToken(), 2),
        (Autoencoder(decoder_layers=1), 2),
        (MultiObjective(objectives=[CausalLM(), SimCLR(**SAME)]), 3),
        (BidirectionalLM(Recurrent(separate=True, dim=32, max_length=64)), 2),
        (MaskedLM(Transformer(size=None, dim=32, layers=1, heads=2, max_length=64, adapter=PromptTuning(3))), 1),
        (SkipGram(BagOfWords(dim=10)), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_token_counts_each_time_that_a_network_reads_it(method, reads):
    data = small_data(length=32)
    if not hasattr(method, "encoder"):
        method.encoder = Transformer(size=None, dim=32, layers=1, heads=2, max_length=64, dropout=0.1)
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    assert batch.all_tokens < batch.all_positions
    before = [len(part._forward_pre_hooks) for part in method.modules()]
    assert training_cost(method.train(), batch).tokens_read == reads * batch.all_tokens
    assert [len(part._forward_pre_hooks) for part in method.modules()] == before
    method._device_mesh = object()  # sharded, where no backward pass can be tried
    assert training_cost(method, batch).tokens_read == reads * batch.all_tokens


@pytest.mark.parametrize("output", ["negative_sampling", "hierarchical_softmax"])
@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_flops_of_word2vec_are_those_of_the_products_of_its_blocks(kind, output):
    data = TextDataModule(CORPUS, TokenizerSettings("word", vocab_size=320), length=64, batch_size=4, seed=0)
    method = kind(BagOfWords(dim=10), window=3, subsample=0, output=output)
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    words = int(method.maskable[batch.input_ids].sum())
    blocks, depth = -(-words // BLOCK), method.frequencies.nodes.shape[-1]
    places = blocks * BLOCK
    # Products forward, and for the gradients of one factor or of both.
    if kind is SkipGram:  # inputs with the outputs of words near any of them and of negatives, or of the nodes of paths
        columns = depth * 7 if method.hierarchical else BLOCK + 6 + SHARED
        expected = 3 * 2 * places * 10 * columns
    else:  # weights with inputs, whose means meet nodes or negatives
        expected = 2 * 2 * places * 10 * (BLOCK + 6) + 3 * 2 * places * 10 * (depth if method.hierarchical else SHARED)
    assert training_cost(method, batch).flops == expected
    assert words > 100


def test_glove_has_no_products_of_matrices():
    data = TextDataModule(CORPUS, TokenizerSettings("word", vocab_size=320), "cooccurrence", batch_size=40, seed=0)
    method = GloVe(BagOfWords(dim=10))
    method.connect(data.tokenizer)
    assert training_cost(method, next(iter(data.val_dataloader()))).flops == 0


def test_flops_of_two_directions_are_those_of_their_cells_and_of_two_output_layers():
    data = small_data(length=16)
    method = BidirectionalLM(Recurrent(separate=True, dim=32, embedding_dim=12, max_length=64))
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    cells = sum(w.numel() for name, w in method.encoder.named_parameters() if re.search("weight_[ih]h", name))
    head = 16 * 12 + 12 * method.vocab_size  # to the width of the embedding, and to the vocabulary
    forward = 2 * (batch.n_tokens * cells + 2 * batch.input_ids.numel() * head)
    assert training_cost(method, batch).flops == pytest.approx(3 * forward, rel=0.02)
