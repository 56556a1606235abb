import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from ssl_nlp.data import TextDataModule, TokenBatch, TokenizerSettings, trainer_state
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.errors import UserError
from tests.corpus import ListCorpus

CORPUS = ListCorpus([f"This is {i}. It is {'very ' * (i % 9)}odd. Why? So." for i in range(60)])
UNITS = ["block", "sentence", "pair"]


def module(unit, seed=0):
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=300), unit=unit, length=32, batch_size=4, seed=seed)


def same(a, b):
    """Whether two batches, or their pairs, are equal in every field."""
    if a is None or b is None:
        return a is b
    tensors = ("input_ids", "segment_ids", "next_ids", "starts_word")
    equal = all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)
    return equal and a.n_tokens == b.n_tokens and same(a.pair, b.pair)


@pytest.mark.parametrize("unit", UNITS)
def test_batches_are_those_of_the_seed_and_resume_at_the_next(unit, monkeypatch):
    batches = list(module(unit).train_dataloader())
    assert all(map(same, batches, module(unit).train_dataloader()))
    assert not all(map(same, batches, module(unit, seed=1).train_dataloader()))
    data = module(unit)
    monkeypatch.setattr(trainer_state, "epoch_and_position", lambda trainer: (0, 3))
    resumed = list(data.train_dataloader())
    assert len(resumed) == len(batches) - 3
    assert all(map(same, batches[3:], resumed))
    assert all((batch.pair is not None) == (unit == "pair") for batch in batches)


def test_resuming_reads_nothing_of_what_was_seen(monkeypatch):
    data = module("pair")
    store = data.store("train")
    batches = len(data.train_dataloader())
    reads = []
    read = store.read
    monkeypatch.setattr(store, "read", lambda start, stop: reads.append(start) or read(start, stop))
    monkeypatch.setattr(trainer_state, "epoch_and_position", lambda trainer: (0, batches - 1))
    [last] = data.train_dataloader()
    assert len(reads) == 2 * len(last)


def test_batches_of_any_rows_hold_all_lengths_in_training_alone():
    def spread(split, **options):
        data = TextDataModule(CORPUS, TokenizerSettings("char"), "sentence", 64, 8, seed=0, **options)
        loader = data.train_dataloader() if split == "train" else data.val_dataloader()
        lengths = [batch.is_text.sum(dim=1).float() for batch in loader]
        return sum(float(row.std()) for row in lengths) / len(lengths)

    assert spread("train") < 0.3 * spread("train", similar_lengths=False)
    assert spread("valid", similar_lengths=False) == spread("valid")


def test_a_pair_needs_room_for_two():
    with pytest.raises(UserError, match="data.length must be 4 or more, not 3"):
        TextDataModule(CORPUS, unit="pair", length=3)


@pytest.mark.parametrize(("unit", "length"), [("sentence", 8), ("pair", 16), ("sentence", 64), ("block", 8)])
def test_a_run_says_once_what_its_length_cuts_off(unit, length, capsys):
    data = module(unit)
    data.length = length
    data.prepare_data()
    said = capsys.readouterr().err
    sizes = [
        len(ids)
        for ids, _ in data.tokenizer.encode([t for d in CORPUS.documents("train") for t in data.maker.texts(d)])
    ]
    beyond = [size - 8 for size in sizes if size > 8]
    if unit == "block" or length == 64:
        assert "cuts off" not in said
    else:
        assert said.count("cuts off") == 1
        room = "data.length 8 " if unit == "sentence" else "data.length 16 leaves 8 tokens for a text, which "
        assert f"{room}cuts off the end of {len(beyond) / len(sizes):.1%} of the texts" in said
        assert f"{sum(beyond) / sum(sizes):.1%} of its tokens; the longest text has {max(sizes)} tokens" in said


def test_other_text_than_is_expected_is_refused():
    digest = module("block").store("train").text_digest
    settings = TokenizerSettings(vocab_size=300)
    expecting = TextDataModule(CORPUS, settings, digests={"train": digest[:12]})
    expecting.store("train")
    assert expecting.text_digests() == {"train": digest}
    wrong = f"{(int(digest[0], 16) + 1) % 16:x}{digest[1:]}"
    with pytest.raises(
        UserError, match=f"train split of ListCorpus is not the text .* is {digest[:12]}, not {wrong[:12]}"
    ):
        TextDataModule(CORPUS, settings, digests={"train": wrong}).store("train")
    for given in ({"train": digest[:11]}, {"training": digest}):
        with pytest.raises(UserError, match="train, valid, test the first 12 digits or more"):
            TextDataModule(CORPUS, settings, digests=given)


class Guest(LightningModule):
    """A model from elsewhere that meets the data."""

    def __init__(self, wanted):
        super().__init__()
        self.tokenizer_wanted, self.met = wanted, []

    def connect_data(self, data, stage):
        self.met.append((data.tokenizer, stage))

    def validation_step(self, batch, batch_idx):
        assert isinstance(batch, TokenBatch)


def test_a_model_meets_the_data_once_a_stage_and_chooses_their_tokenizer():
    own = get_tokenizer(TokenizerSettings(kind="char"), CORPUS)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer, data, guest = Trainer(accelerator="cpu", **quiet), module("sentence"), Guest(own)
    trainer.validate(guest, datamodule=data, verbose=False)
    assert guest.met == [(own, "validate")]
    assert data.tokenizer is own
    stranger = LightningModule()  # one that asks for nothing, and trains on the batches
    stranger.validation_step = Guest.validation_step.__get__(stranger)
    trainer.validate(stranger, datamodule=module("sentence"), verbose=False)
