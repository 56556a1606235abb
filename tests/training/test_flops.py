import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import BagOfWords, Recurrent, Transformer
from ssl_nlp.encoders.adapters import IA3, AdaLoRA, LoRA, PromptTuning
from ssl_nlp.methods import (
    ARAE,
    CBOW,
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
)
from ssl_nlp.methods.word_vectors.windowed import BLOCK, SHARED
from ssl_nlp.objectives.views import Repeat
from ssl_nlp.training.flops import (
    _MORE_FLOPS,
    cost_per_token,
    estimated_flops,
    forward_flops,
    training_cost,
)
from ssl_nlp.training.module import Module
from ssl_nlp.training.sums import Loss, Term
from tests.corpus import ListCorpus, random_texts
from tests.training.small_data import CORPUS, small_data, small_trainer
from tests.training.states import States


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
