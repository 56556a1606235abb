import math
import random
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, MaskedLM, Method, Optimization, SimCLR
from ssl_nlp.runs import checkpoint
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import save_untrained

CORPUS = ListCorpus(random_texts(60), random_texts(20, seed=1))


def data(batch_size=4):
    settings = TokenizerSettings(vocab_size=320)
    return TextDataModule(CORPUS, settings, unit="sentence", length=64, batch_size=batch_size, seed=0)


def encoder(**arguments):
    return Transformer(size=None, dim=16, layers=2, heads=2, max_length=64, **arguments)


def trainer(path, **arguments):
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "enable_checkpointing": False,
    }
    return Trainer(default_root_dir=path, accelerator="cpu", **({"max_steps": 4} | quiet | arguments))


def test_gradients_of_unequal_batches_are_those_of_the_mean_over_all_targets(tmp_path):
    """Sentences differ in length. Compares the gradients before the step with those of one pass over both batches."""
    module = data(batch_size=3)
    caught = {}

    class Catch(CausalLM):
        def on_before_optimizer_step(self, optimizer):
            super().on_before_optimizer_step(optimizer)
            caught.update({name: p.grad.clone() for name, p in self.named_parameters()})

        def loss(self, batch):
            caught.setdefault("batches", []).append(batch)
            return super().loss(batch)

    method = Catch(encoder(), Optimization(learning_rate=1e-9, schedule="constant", warmup=0))
    trainer(tmp_path, accumulate_grad_batches=2, max_steps=1, limit_val_batches=0).fit(method, module)
    batches = caught.pop("batches")
    assert batches[0].n_tokens != batches[1].n_tokens
    method.zero_grad()
    losses = [CausalLM.loss(method, batch).terms["next_token"] for batch in batches]
    (sum(loss.total for loss in losses) / sum(loss.targets for loss in losses)).backward()
    for name, parameter in method.named_parameters():
        assert torch.allclose(parameter.grad, caught[name], atol=1e-6), name


def test_validation_loss_is_the_sum_over_all_targets_divided_by_their_number(tmp_path):
    module = data()
    method = CausalLM(encoder())
    runner = trainer(tmp_path)
    [metrics] = runner.validate(method, module, verbose=False)
    total = targets = 0
    with torch.no_grad():
        for batch in module.val_dataloader():
            loss = method.loss(batch).terms["next_token"]
            total, targets = total + loss.total.double(), targets + loss.targets
    assert metrics["val/loss"] == pytest.approx(float(total / targets), rel=1e-6)
    assert metrics["val/perplexity"] == pytest.approx(float((total / targets).exp()), rel=1e-6)
    texts = [document.text for document in CORPUS.documents("valid")]
    size = sum(len(sentence.strip().encode()) for text in texts for sentence in _sentences(text))
    assert metrics["val/bits_per_byte"] == pytest.approx(float(total) / math.log(2) / size, rel=1e-5)


def _sentences(text):
    from ssl_nlp.data.sentences import split_sentences

    return split_sentences(text)


def test_two_validations_face_the_same_questions(tmp_path):
    method = MaskedLM(encoder(dropout=0.5))
    runner = trainer(tmp_path)
    torch.manual_seed(1)
    first = runner.validate(method, data(), verbose=False)
    torch.manual_seed(2)
    assert runner.validate(method, data(), verbose=False) == first


def test_a_checkpoint_needs_nothing_but_itself(tmp_path):
    method = MaskedLM(encoder(), masking_rate=0.4, optimization=Optimization(learning_rate=2e-3))
    runner = trainer(tmp_path)
    runner.fit(method, data())
    runner.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    for kind in (Method, MaskedLM):
        loaded = kind.load_from_checkpoint(tmp_path / "a.ckpt")
        assert type(loaded) is MaskedLM
        assert (loaded.masking_rate, loaded.optimization.learning_rate) == (0.4, 2e-3)
        assert not loaded.training
        assert torch.equal(loaded.embed(["some text", "more"]), method.embed(["some text", "more"]))
    with pytest.raises(UserError, match="holds a ssl_nlp.methods.MaskedLM, not a CausalLM"):
        CausalLM.load_from_checkpoint(tmp_path / "a.ckpt")


class FewArguments(MaskedLM):
    def __init__(self, encoder, power=1.0):
        super().__init__(encoder, masking_rate=0.2)
        self.power = power


class MoreArguments(MaskedLM):
    def __init__(self, encoder, power=1.0, **arguments):
        super().__init__(encoder, **arguments)
        self.power = power


class HiddenArguments(MaskedLM):
    def __init__(self, **arguments):
        self.power = arguments.pop("power")
        super().__init__(masking_rate=0.2, **arguments)


class Untyped(MaskedLM):
    def __init__(self, encoder, anything=None):
        super().__init__(encoder)


@pytest.mark.parametrize("value", [Path("a"), {"a": Optimization()}, len], ids=["path", "nested", "function"])
def test_arguments_that_no_checkpoint_can_keep_are_refused_before_the_training(value, tmp_path):
    with pytest.raises(UserError, match="Untyped: its argument 'anything' is .* which no checkpoint can keep"):
        trainer(tmp_path, max_steps=1).fit(Untyped(encoder(), anything=value), data())


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(FewArguments, {}), (MoreArguments, {"masking_rate": 0.2, "compile": False}), (HiddenArguments, {})],
)
def test_a_method_may_take_other_arguments_than_the_class_it_builds_on(kind, arguments, tmp_path):
    method = kind(encoder=encoder(), power=3.0, **arguments)
    runner = trainer(tmp_path, max_steps=1)
    runner.fit(method, data())
    runner.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert type(loaded) is kind and loaded.power == 3.0 and loaded.masking_rate == 0.2
    assert torch.equal(loaded.embed(["the dog"]), method.embed(["the dog"]))


def test_a_checkpoint_with_a_damaged_bit_loads_as_it_was_or_is_refused(tmp_path):
    """The bits of the archive's directory, which names, places and sizes its parts."""
    method = MaskedLM(encoder())
    whole = save_untrained(
        method, get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS), tmp_path / "whole.ckpt"
    ).read_bytes()
    generator = random.Random(0)
    for place in generator.sample(range(len(whole) - 2000, len(whole)), 200):
        bits = bytearray(whole)
        bits[place] ^= 1 << generator.randrange(8)
        (tmp_path / "damaged.ckpt").write_bytes(bits)
        try:
            loaded = Method.load_from_checkpoint(tmp_path / "damaged.ckpt")
        except UserError as error:
            assert "copy or train it again" in str(error)  # noqa: PT017
        else:
            assert all(torch.equal(*pair) for pair in zip(loaded.parameters(), method.parameters(), strict=True))


def test_broken_checkpoints_are_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        Method.load_from_checkpoint(tmp_path / "none.ckpt")
    for content in (b"PK\x03\x04half", b"junk\n", b"hello", b""):
        (tmp_path / "half.ckpt").write_bytes(content)
        with pytest.raises(UserError, match="half.ckpt is not a complete checkpoint"):
            Method.load_from_checkpoint(tmp_path / "half.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of ssl_nlp"):
        Method.load_from_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(
        UserError,
        match="needs the class nowhere.Nothing, which is not known: .*--import",
    ):
        checkpoint.instantiate({"class_path": "nowhere.Nothing", "init_args": {}}, Method)


def test_rows_longer_than_the_encoder_are_refused_before_training(tmp_path):
    module = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), length=65)
    with pytest.raises(UserError, match=r"data.length 65 is longer than the encoder's max_length 64"):
        trainer(tmp_path).fit(CausalLM(encoder()), module)


def with_dropout():
    return encoder(dropout=0.5)


def modes_of_training(method, path, module):
    """The encoder's mode in each training step, and how often its states of the same batch differ: dropout."""
    modes = []

    class Watch(type(method)):
        def loss(self, batch):
            if self.training:
                with torch.no_grad():
                    modes.append((self.encoder.training, torch.equal(self.encoder(batch), self.encoder(batch))))
            return super().loss(batch)

    method.__class__ = Watch
    trainer(path, max_steps=2).fit(method, module)
    return set(modes)


def test_an_encoder_that_was_loaded_trains_with_dropout_in_another_method(tmp_path):
    """Loading leaves it in evaluation mode, which Lightning would keep."""
    runner = trainer(tmp_path)
    runner.fit(MaskedLM(with_dropout()), data())
    runner.save_checkpoint(tmp_path / "a.ckpt")
    loaded = MaskedLM.load_from_checkpoint(tmp_path / "a.ckpt")
    assert modes_of_training(SimCLR(loaded.encoder), tmp_path, data()) == {(True, False)}
    assert modes_of_training(MaskedLM.load_from_checkpoint(tmp_path / "a.ckpt"), tmp_path, data()) == {(True, False)}


def test_an_encoder_that_was_frozen_stays_without_dropout(tmp_path):
    method = MaskedLM(with_dropout())
    method.connect(data().tokenizer)
    method.encoder.requires_grad_(False).eval()
    assert modes_of_training(method, tmp_path, data()) == {(False, True)}
    assert method.head.training


@pytest.mark.parametrize("kept", ["in memory", "in a checkpoint"])
def test_an_encoder_refuses_the_tokens_of_another_tokenizer_of_equal_size(kept, tmp_path):
    foxes = ListCorpus(["seven quick brown foxes jump over lazy dogs while nobody watches their adventure"] * 60)
    other, same = (TextDataModule(c, TokenizerSettings(vocab_size=300), "sentence", 64, 4) for c in (foxes, CORPUS))
    assert other.tokenizer.vocab_size == same.tokenizer.vocab_size
    method, runner = MaskedLM(with_dropout()), trainer(tmp_path, max_steps=1)
    runner.fit(method, same)
    if kept == "in a checkpoint":
        runner.save_checkpoint(tmp_path / "a.ckpt")
        method = MaskedLM.load_from_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"another tokenizer than the data's.*or make a new encoder"):
        trainer(tmp_path, max_steps=1).fit(SimCLR(method.encoder), other)
    trainer(tmp_path, max_steps=1).fit(SimCLR(method.encoder), same)
