import re
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import BagOfWords, Recurrent, Transformer
from ssl_nlp.encoders.adapters import IA3, AdaLoRA, LoRA, PromptTuning
from ssl_nlp.errors import UserError
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
    Optimization,
    Player,
    Ramp,
    ReplacedToken,
    SimCLR,
    SkipGram,
)
from ssl_nlp.methods.word_vectors.windowed import BLOCK, SHARED
from ssl_nlp.objectives.views import Repeat
from ssl_nlp.training.callbacks import Throughput, throughput
from ssl_nlp.training.callbacks.throughput import (
    _MORE_FLOPS,
    _recurrent_flops,
    estimated_flops,
    forward_flops,
    peak_flops,
    training_cost,
)
from ssl_nlp.training.module import Module
from ssl_nlp.training.optimizers import build_optimizer
from ssl_nlp.training.sums import Loss, Term
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60))


def module(unit="sentence", length=64):
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit=unit, length=length, batch_size=4, seed=0)


class Record(Callback):
    """What was logged, and what it should have been."""

    def __init__(self):
        self.real = self.padded = 0
        self.logged = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.real += int(batch.is_text.sum())
        self.padded += batch.input_ids.numel()
        if trainer.global_step % trainer.log_every_n_steps == 0:
            self.logged.append((dict(trainer.callback_metrics), self.real, self.padded))


def test_tokens_are_real_ones_and_the_rate_is_theirs(tmp_path, monkeypatch):
    clock = iter(range(10_000))
    busy = iter(range(0, 10_000, 3))
    time = SimpleNamespace(  # clocks of its own: others look at the common ones
        perf_counter=lambda: float(next(clock)), process_time=lambda: float(next(busy))
    )
    monkeypatch.setattr("ssl_nlp.training.callbacks.throughput.time", time)
    monkeypatch.setattr("ssl_nlp.training.callbacks.throughput.peak_flops", lambda device, dtype: 1e6)
    record, throughput = Record(), Throughput()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=4, log_every_n_steps=2, limit_val_batches=0, accelerator="cpu",
        enable_checkpointing=False, callbacks=[throughput, record], **quiet,
    )  # fmt: skip
    method = CausalLM(Transformer(size=None, dim=16, layers=2, heads=2, max_length=64))
    trainer.fit(method, module())
    assert record.padded > record.real
    (first, after_two, positions_after_two), (last, after_four, positions_after_four) = record.logged
    assert float(first["train/tokens"]) == after_two
    assert float(last["train/tokens"]) == after_four == throughput.state_dict()["tokens"]
    # The clock ticks once a look: one second for each of the two steps of a window.
    assert float(last["train/tokens_per_second"]) == pytest.approx((after_four - after_two) / 2)
    # The processors' seconds are three for each, of all steps.
    assert [float(logged["train/processor_seconds"]) for logged in (first, last)] == [6, 12]
    assert throughput.state_dict()["seconds"] == 12
    assert float(first["train/padding"]) == pytest.approx(1 - after_two / positions_after_two)
    share = 1 - (after_four - after_two) / (positions_after_four - positions_after_two)
    assert float(last["train/padding"]) == pytest.approx(share)
    rate = float(last["train/tokens_per_second"])
    assert float(last["train/peak_memory"]) > 1e7  # bytes of this process
    assert float(last["train/mfu"]) == pytest.approx(rate * throughput.flops_per_token / 1e6)
    assert float(last["train/flops"]) == pytest.approx(after_four * throughput.flops_per_token)


def test_flops_are_those_of_the_matrix_products_and_counting_leaves_no_trace():
    data = module(unit="block")
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
    data = module(unit="sentence", length=16)
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


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("frozen", [{}, {"freeze": "embeddings"}, {"freeze": 1}, {"adapter": PromptTuning(2)}], ids=str)
def test_flops_of_training_a_recurrent_encoder_are_those_that_backward_passes_do(frozen, causal):
    data = module(unit="sentence", length=16)
    method = States(Recurrent(dim=32, layers=2, max_length=64, **frozen))
    method.causal = causal
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    counter = FlopCounterMode(display=False)
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
    data = module(unit="sentence", length=16)
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
    data = module(unit="sentence", length=16)
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
    data = module(unit="block", length=64)
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


def test_a_share_of_an_unknown_number_of_steps_is_refused_before_the_first_one(tmp_path):
    optimization = Optimization(warmup=0, schedule="constant")
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
    method = MaskedDiffusion(encoder, max_masking_rate=Ramp(0.3, 1.0, steps=0.5), optimization=optimization)
    trainer = Trainer(
        max_steps=-1, max_epochs=-1, max_time="00:00:10:00", logger=False, enable_checkpointing=False, accelerator="cpu",
        default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(UserError, match="max_masking_rate changes over a share of all steps"):
        trainer.fit(method, module(unit="block"))
    assert trainer.global_step == 0


def test_flops_of_an_adversarial_training_are_those_that_torch_counts_in_it(tmp_path):
    """All of them, in the six steps after which its players act as before, on one batch again and again."""
    data = module(unit="sentence", length=16)
    data.workers = 0
    method = ARAE(
        Transformer(size=None, dim=32, layers=1, heads=2, max_length=64),
        latent_dim=8, width=16, decoder_layers=1, autoencoder_every=2, generator_every=3,
    )  # fmt: skip
    method.connect(data.tokenizer)
    batch = data._loader("train").dataset[range(4)]
    expected = training_cost(method, batch).flops
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    run = Trainer(default_root_dir=tmp_path, max_steps=6, limit_val_batches=0, accelerator="cpu", **quiet)
    with FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS) as counter:
        run.fit(method, DataLoader([batch] * 6, batch_size=None))
    assert counter.get_total_flops() == 6 * expected


def test_flops_include_those_of_muon_in_the_steps_in_which_its_player_acts(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_nlp.training.callbacks.throughput.peak_flops", lambda device, dtype: 1.0)  # no products
    data = module(unit="sentence", length=16)
    method = ARAE(
        Transformer(size=None, dim=32, layers=1, heads=2, max_length=64),
        latent_dim=8, width=16, decoder_layers=1, autoencoder_every=2, generator_every=3,
        optimization=Optimization(optimizer="muon"),
    )  # fmt: skip
    method.connect(data.tokenizer)
    batch = data._loader("train").dataset[range(4)]
    throughput = Throughput()
    throughput.reads_per_token, throughput.flops_per_token = 1.0, training_cost(method, batch).flops / batch.all_tokens
    run = Trainer(
        default_root_dir=tmp_path, max_steps=6, log_every_n_steps=1, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, callbacks=[throughput],
    )  # fmt: skip
    with FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS) as counter:
        run.fit(method, DataLoader([batch] * 6, batch_size=None))
    done = counter.get_total_flops()
    assert float(run.callback_metrics["train/flops"]) == pytest.approx(done, rel=1e-6)
    assert 0.1 < throughput.optimizer_flops / done < 0.9


def test_the_optimizers_flops_are_kept_and_reckoned_where_a_checkpoint_lacks_them(tmp_path):
    def fit(steps, saved=None):
        throughput = Throughput()
        if saved:
            throughput.load_state_dict(saved)
        trainer = Trainer(
            default_root_dir=tmp_path, max_steps=steps, limit_val_batches=0, accelerator="cpu", logger=False,
            enable_checkpointing=False, callbacks=[throughput], enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
        trainer.fit(CausalLM(encoder, optimization=Optimization(optimizer="muon")), module())
        return throughput.state_dict()

    saved = fit(2)
    assert saved["optimizer_flops"] > 0
    spent = Throughput()
    spent.load_state_dict(saved)
    expected = saved["optimizer_flops"] + saved["window_tokens"] * saved["flops_per_token"]
    assert spent.spent(torch.device("cpu"))["flops"] == pytest.approx(expected)
    assert fit(3, saved)["optimizer_flops"] == 2.5 * saved["optimizer_flops"]
    older = Throughput()
    older.load_state_dict({name: value for name, value in saved.items() if name != "optimizer_flops"})
    assert older.spent(torch.device("cpu"))["flops"] == pytest.approx(expected - saved["optimizer_flops"])
    [matrices] = build_optimizer(nn.ModuleList([nn.Linear(4, 4)]), Optimization(optimizer="muon")).parts[:1]
    matrices.param_groups[0]["params"][0].grad = torch.zeros(4, 4)
    older.on_before_optimizer_step(SimpleNamespace(global_step=9, world_size=2), None, matrices)
    assert older.optimizer_flops == 10 * 2 * matrices.flops()


def test_flops_of_an_adapters_penalty_count():
    data = module(unit="sentence", length=16)
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


@pytest.mark.parametrize("objectives", [[CausalLM()], [CausalLM(), CausalLM()]], ids=len)
def test_counting_targets_beforehand_costs_what_it_does(tmp_path, objectives):
    """A single objective counts its targets without a forward pass, several together do not."""
    encoder = Transformer(size=None, dim=32, layers=1, heads=2, max_length=64)
    together = len(objectives) > 1
    if together:
        method = MultiObjective(encoder, objectives=objectives)
    else:
        [method] = objectives
        method.encoder = encoder
    throughput, data = Throughput(), module(unit="block")
    method.connect(data.tokenizer)
    batch = data._loader("train").dataset[range(4)]
    alone = training_cost(method, batch)
    run = Trainer(
        default_root_dir=tmp_path, max_steps=2, log_every_n_steps=1, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, callbacks=[throughput],
        accumulate_grad_batches=2,
    )  # fmt: skip
    run.fit(method, data)
    factor = 4 / 3 if together else 1
    assert throughput.flops_per_token == pytest.approx(factor * alone.flops / batch.all_tokens, rel=0.02)
    assert throughput.reads_per_token == (4 if together else 1)


def test_flops_without_a_gradient_and_of_measurements_do_not_count_as_trained():
    """The key encoder of MoCo has no backward pass, and the cosine of gradients is measured in few of the steps only."""
    data = module(unit="sentence", length=16)
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
    data = module(length=32)
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


def test_tokens_read_are_kept_and_counted_where_a_checkpoint_lacks_them(tmp_path):
    def fit(throughput, steps):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            default_root_dir=tmp_path, max_steps=steps, log_every_n_steps=1, limit_val_batches=0, accelerator="cpu",
            enable_checkpointing=False, callbacks=[throughput], **quiet,
        )  # fmt: skip
        trainer.fit(
            SimCLR(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1), **SAME), module()
        )
        return float(trainer.callback_metrics["train/tokens_read"]), float(trainer.callback_metrics["train/tokens"])

    first = Throughput()
    read, tokens = fit(first, 2)
    assert read == 2 * tokens
    saved = first.state_dict()
    resumed = Throughput()
    resumed.load_state_dict(saved | {"reads_per_token": 3.0, "flops_per_token": 5.0})
    read, more = fit(resumed, 1)
    assert more > tokens and read == 3 * more
    del saved["reads_per_token"]
    older = Throughput()
    older.load_state_dict(saved | {"flops_per_token": 5.0})
    read, more = fit(older, 1)
    assert more > tokens and read == 2 * more
    assert older.flops_per_token == 5.0


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
    data = module(length=16)
    method = BidirectionalLM(Recurrent(separate=True, dim=32, embedding_dim=12, max_length=64))
    method.connect(data.tokenizer)
    batch = next(iter(data.val_dataloader()))
    cells = sum(w.numel() for name, w in method.encoder.named_parameters() if re.search("weight_[ih]h", name))
    head = 16 * 12 + 12 * method.vocab_size  # to the width of the embedding, and to the vocabulary
    forward = 2 * (batch.n_tokens * cells + 2 * batch.input_ids.numel() * head)
    assert training_cost(method, batch).flops == pytest.approx(3 * forward, rel=0.02)


def test_the_peak_is_measured_where_no_table_has_it():
    assert 1e8 < peak_flops(torch.device("cpu"), torch.float32) < 1e15


def test_a_card_that_is_not_in_lightnings_list_is_timed_without_a_warning(monkeypatch, recwarn):
    """Its name stands in for the card, whose products the CPU computes here."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    timed = []
    monkeypatch.setattr(
        throughput, "_speed_of_products", lambda device, dtype, size, number: timed.append((size, number)) or 5.0
    )
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == 5.0
    [(size, number)] = timed
    assert 2 * number * size**3 > 1e12  # a millisecond of a fast card, beside which launching takes no time
    assert not recwarn.list
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA A100-SXM4-40GB")
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == 312e12
    assert len(timed) == 1
