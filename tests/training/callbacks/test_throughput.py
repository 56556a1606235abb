from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import (
    ARAE,
    CausalLM,
    MultiObjective,
    Optimization,
    SimCLR,
)
from ssl_nlp.training.callbacks import Throughput, throughput
from ssl_nlp.training.callbacks.throughput import peak_flops
from ssl_nlp.training.flops import _MORE_FLOPS, CostPerToken, training_cost
from ssl_nlp.training.optimizers import build_optimizer
from tests.training.small_data import CORPUS, small_data, small_trainer


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
    callbacks = [throughput, record]
    trainer = small_trainer(default_root_dir=tmp_path, max_steps=4, log_every_n_steps=2, callbacks=callbacks)
    method = CausalLM(Transformer(size=None, dim=16, layers=2, heads=2, max_length=64))
    trainer.fit(method, small_data())
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


def test_flops_include_those_of_muon_in_the_steps_in_which_its_player_acts(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_nlp.training.callbacks.throughput.peak_flops", lambda device, dtype: 1.0)  # no products
    data = small_data(unit="sentence", length=16)
    method = ARAE(
        Transformer(size=None, dim=32, layers=1, heads=2, max_length=64),
        latent_dim=8, width=16, decoder_layers=1, autoencoder_every=2, generator_every=3,
        optimization=Optimization(optimizer="muon"),
    )  # fmt: skip
    method.connect(data.tokenizer)
    batch = data._loader("train").dataset[range(4)]
    throughput = Throughput()
    throughput.reads_per_token, throughput.flops_per_token = 1.0, training_cost(method, batch).flops / batch.all_tokens
    run = small_trainer(default_root_dir=tmp_path, max_steps=6, log_every_n_steps=1, callbacks=[throughput])
    with FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS) as counter:
        run.fit(method, DataLoader([batch] * 6, batch_size=None))
    done = counter.get_total_flops()
    assert float(run.callback_metrics["train/flops"]) == pytest.approx(done, rel=1e-6)
    assert 0.1 < throughput.optimizer_flops / done < 0.9


class Stop(Callback):
    """Ends a training after its first step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = True


@pytest.mark.parametrize(
    ("steps", "settings", "coming"),
    [(19, {}, 1), (20, {}, 15), (20, {"limit_train_batches": 9}, 9)],
    ids=["short", "all of the epoch", "part of it"],
)
def test_a_long_training_counts_batches_of_those_that_come(tmp_path, monkeypatch, steps, settings, coming):
    found = []
    monkeypatch.setattr(
        throughput, "cost_per_token", lambda method, batches: found.append(batches) or CostPerToken(1.0, 1.0)
    )
    method = CausalLM(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    small_trainer(default_root_dir=tmp_path, max_steps=steps, callbacks=[Throughput(), Stop()], **settings).fit(
        method, small_data()
    )
    assert [len(batches) for batches in found] == [coming]


def test_making_batches_beforehand_takes_time_that_counts(tmp_path, monkeypatch):
    clock = iter(range(10_000))
    time = SimpleNamespace(perf_counter=lambda: float(next(clock)), process_time=lambda: 0.0)
    monkeypatch.setattr("ssl_nlp.training.callbacks.throughput.time", time)
    monkeypatch.setattr("ssl_nlp.training.callbacks.throughput.peak_flops", lambda device, dtype: 1e6)
    monkeypatch.setattr(throughput, "cost_per_token", lambda method, batches: CostPerToken(1.0, 1.0))

    class Slow(TextDataModule):
        def upcoming(self, number):
            for _ in range(50):
                time.perf_counter()
            return super().upcoming(number)

    callback = Throughput()
    settings = {"unit": "sentence", "length": 64, "batch_size": 4, "seed": 0}
    trainer = small_trainer(default_root_dir=tmp_path, max_steps=20, log_every_n_steps=1, callbacks=[callback, Stop()])
    trainer.fit(
        CausalLM(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)),
        Slow(CORPUS, TokenizerSettings(vocab_size=320), **settings),
    )
    rate, tokens = (float(trainer.callback_metrics[f"train/{name}"]) for name in ("tokens_per_second", "tokens"))
    assert tokens / rate == pytest.approx(52)  # 51 ticks of the clock beforehand, and one of the step


class OwnLoader(TextDataModule):
    """Data whose loader does not look ahead."""

    def train_dataloader(self):
        return DataLoader([self._loader("train").dataset[range(4)]] * 30, batch_size=None)


def test_a_loader_that_does_not_look_ahead_has_its_first_batch_counted(tmp_path):
    callback = Throughput()
    data = OwnLoader(CORPUS, TokenizerSettings(vocab_size=320), "sentence", length=64, batch_size=4, seed=0)
    method = CausalLM(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    small_trainer(default_root_dir=tmp_path, max_steps=20, callbacks=[callback, Stop()]).fit(method, data)
    assert callback.flops_per_token > 0
    with pytest.raises(UserError, match="accumulate_grad_batches needs a TextDataModule, which can look ahead"):
        small_trainer(default_root_dir=tmp_path, max_steps=2, accumulate_grad_batches=2).fit(
            CausalLM(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)), data
        )


def test_the_optimizers_flops_are_kept_and_estimated_where_a_checkpoint_lacks_them(tmp_path):
    def fit(steps, saved=None):
        throughput = Throughput()
        if saved:
            throughput.load_state_dict(saved)
        trainer = small_trainer(default_root_dir=tmp_path, max_steps=steps, callbacks=[throughput])
        encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
        trainer.fit(CausalLM(encoder, optimization=Optimization(optimizer="muon")), small_data())
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
    throughput, data = Throughput(), small_data(unit="block")
    method.connect(data.tokenizer)
    batch = data._loader("train").dataset[range(4)]
    alone = training_cost(method, batch)
    run = small_trainer(default_root_dir=tmp_path, max_steps=2, callbacks=[throughput], accumulate_grad_batches=2)
    run.fit(method, data)
    factor = 4 / 3 if together else 1
    assert throughput.flops_per_token == pytest.approx(factor * alone.flops / batch.all_tokens, rel=0.02)
    assert throughput.reads_per_token == (4 if together else 1)


def test_tokens_read_are_kept_and_counted_where_a_checkpoint_lacks_them(tmp_path):
    def fit(throughput, steps):
        trainer = small_trainer(default_root_dir=tmp_path, max_steps=steps, log_every_n_steps=1, callbacks=[throughput])
        encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1)
        trainer.fit(SimCLR(encoder, views=[]), small_data())
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
