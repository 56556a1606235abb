from types import SimpleNamespace

import pytest
from lightning.pytorch import Callback, Trainer

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import CausalLM, Optimization
from ssl_nlp.training.callbacks import ProgressLines
from ssl_nlp.training.callbacks.progress_lines import duration
from tests.corpus import ListCorpus, random_texts


class Clock(Callback):
    """A clock that ticks once a batch: 12 seconds in training, 20 or so in validation. Stops the training at a step."""

    def __init__(self, stop: int = -1, validation: int = 20):
        self.now, self.stop, self.validation = 0.0, stop, validation
        self.tokens = []  # of each training batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.now += 12
        self.tokens.append(batch.all_tokens)
        trainer.should_stop = trainer.global_step == self.stop

    def on_validation_batch_end(self, *args):
        self.now += self.validation


@pytest.fixture(scope="module")
def data():
    texts = ListCorpus(random_texts(120))
    return TextDataModule(texts, TokenizerSettings(vocab_size=320), unit="sentence", length=64, batch_size=4, seed=0)


def tiny():
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
    return CausalLM(encoder, optimization=Optimization(schedule="constant", warmup=1))


def fit(data, tmp_path, capsys, clock=None, ckpt_path=None, **settings):
    """The lines about a training, and its clock."""
    clock = clock or Clock()
    lines = ProgressLines(clock=lambda: clock.now, shown=True)
    trainer = Trainer(
        **{"limit_val_batches": 0, "max_epochs": -1, "log_every_n_steps": 5, "num_sanity_val_steps": 0} | settings,
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[clock, lines],
    )  # fmt: skip
    capsys.readouterr()
    trainer.fit(tiny(), data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")], clock


def test_a_line_every_half_minute_and_not_one_a_batch(data, tmp_path, capsys):
    lines, clock = fit(data, tmp_path, capsys, max_steps=10)
    parts = [line.split("  ") for line in lines]
    assert [part[0] for part in parts] == ["step 3 of 10 (30%)", "step 6 of 10 (60%)", "step 9 of 10 (90%)"]
    assert all(4 < float(part[1].removeprefix("train/loss ")) < 8 for part in parts)
    rates = [sum(clock.tokens[first : first + 3]) / 36 for first in (0, 3, 6)]
    assert [part[2] for part in parts] == [f"{rate:,.0f} tokens/s" for rate in rates]
    assert [part[3] for part in parts] == ["1 min left", "48 s left", "12 s left"]  # 12 seconds a step


def test_accumulated_batches_count_as_the_step_that_they_make(data, tmp_path, capsys):
    lines, _ = fit(data, tmp_path, capsys, max_steps=2, accumulate_grad_batches=4)
    assert [line.split("  ")[0] for line in lines] == ["step 0 of 2 (0%)", "step 1 of 2 (50%)"]
    assert "left" not in lines[0]
    assert lines[1].endswith("  1 min left")  # the first step is timed from the end of its first batch: 60 seconds


def test_where_the_end_is_not_known_the_epoch_is_named(data, tmp_path, capsys):
    lines, _ = fit(data, tmp_path, capsys, Clock(stop=3))
    assert len(lines) == 1
    assert lines[0].startswith("step 3, epoch 1  train/loss ")
    assert lines[0].endswith(" tokens/s")


def test_a_resumed_training_is_timed_by_its_own_steps(data, tmp_path, capsys):
    fit(data, tmp_path, capsys, max_steps=4)
    lines, clock = fit(data, tmp_path, capsys, max_steps=10, ckpt_path=tmp_path / "end.ckpt")
    assert [line.split("  ")[0] for line in lines] == ["step 7 of 10 (70%)", "step 10 of 10 (100%)"]
    assert lines[0].endswith(f"  {sum(clock.tokens[:3]) / 36:,.0f} tokens/s  36 s left")


def test_a_long_validation_has_lines_too(data, tmp_path, capsys):
    settings = {"max_steps": 4, "limit_val_batches": 2, "val_check_interval": 2}
    lines, _ = fit(data, tmp_path, capsys, Clock(validation=30), **settings)
    assert lines == [f"step {step}: validation batch {batch} of 2" for step in (2, 4) for batch in (1, 2)]


def test_a_validation_does_not_slow_the_rate_down(data, tmp_path, capsys):
    clock = Clock(validation=4)
    lines, _ = fit(data, tmp_path, capsys, clock, max_steps=8, limit_val_batches=1, val_check_interval=4)
    assert lines[1].startswith("step 7 of 8 ")
    assert f"  {sum(clock.tokens[3:7]) / 48:,.0f} tokens/s  " in lines[1]  # four batches of 12 seconds


def stub(**settings):
    return SimpleNamespace(
        **{"is_global_zero": True, "world_size": 1, "global_step": 1, "estimated_stepping_batches": 2} | settings,
        callback_metrics={}, current_epoch=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "rank", "expected"), [(True, 0, "600 tokens/s"), (True, 1, ""), (False, 0, ""), (None, 0, "600 tokens/s")]
)
def test_the_first_rank_writes_for_all_and_only_where_there_is_no_terminal(shown, rank, expected, capsys):
    now = [0.0]
    lines = ProgressLines(clock=lambda: now[0], shown=shown)
    method = tiny()
    trainer, batch = stub(is_global_zero=rank == 0, world_size=2), SimpleNamespace(all_tokens=9_000)
    lines.setup(trainer, method, "fit")
    lines.on_train_batch_start(trainer, method, batch, 0)
    now[0] = 30.0
    lines.on_train_batch_end(trainer, method, {}, batch, 0)
    shown = capsys.readouterr().out
    assert shown == (f"step 1 of 2 (50%)  {expected}\n" if expected else "")


def test_times_have_two_units():
    times = {
        0: "0 s",
        59: "59 s",
        60: "1 min",
        3540: "59 min",
        3599: "1 h 0 min",
        7260: "2 h 1 min",
        180_000: "2 d 2 h",
    }
    assert {seconds: duration(seconds) for seconds in times} == times
