"""What a variational autoencoder writes, also after it was saved, over other encoders, and with recurrent networks."""

import math

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import BertConfig, BertModel, BertTokenizerFast

from ssl_nlp.data import Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer, load_pretrained
from ssl_nlp.encoders import PretrainedEncoder, Recurrent
from ssl_nlp.methods import VAE, Method
from ssl_nlp.modules.sampling import Sampling
from tests.methods.autoencoding.small_vae import PLAIN, connected
from tests.methods.sentences import CORPUS, TEXTS, data, encoder, rows_of, trainer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.mark.slow
def test_it_overfits_writes_sentences_back_and_goes_from_one_to_another(tokenizer):
    torch.manual_seed(0)
    method = VAE(encoder(64), beta=0.01, **PLAIN)
    method.connect(tokenizer)
    rows = rows_of(tokenizer, TEXTS)
    optimizer = torch.optim.AdamW(method.parameters(), 4e-3)
    for step in range(150):
        torch.manual_seed(step)
        optimizer.zero_grad()
        method.loss(rows).mean().backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 5.0)
        optimizer.step()
    reconstructions = method.reconstruct(TEXTS)
    assert sum(a == b for a, b in zip(reconstructions, TEXTS, strict=True)) >= 56
    path = method.interpolate(TEXTS[0], TEXTS[1], steps=5)
    assert (len(path), path[0], path[-1]) == (5, reconstructions[0], reconstructions[1])
    rows = method.samples(TEXTS[:3])
    assert [row["reconstruction"] for row in rows] == reconstructions[:3]
    assert [row["from_prior"] for row in rows] == method.draw(3, seed=0)


def test_sentences_from_the_prior_are_reproducible_and_leave_the_mode_and_the_random_state_alone(tokenizer):
    method = connected(tokenizer, **PLAIN).train()
    state = torch.get_rng_state()
    first = method.draw(5, seed=3)
    assert len(first) == 5
    assert method.draw(5, seed=3) == first != method.draw(5, seed=4)
    assert method.draw(5, seed=3, temperature=0) != first
    assert method.training
    assert torch.equal(state, torch.get_rng_state())
    assert method.draw(0) == method.reconstruct([]) == []


def test_a_checkpoint_needs_nothing_but_itself(tmp_path):
    method = VAE(encoder(16), latent_dim=5, free_bits=2.0, free_bits_per="total", tied_embeddings=True)
    runner = trainer(tmp_path)
    runner.fit(method, data())
    runner.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert (loaded.free_bits, loaded.free_bits_per) == (2.0, "total")
    assert loaded.embed(TEXTS[:5]).shape == (5, 5)
    assert torch.equal(loaded.embed(TEXTS[:5]), method.embed(TEXTS[:5]))
    assert loaded.draw(2, seed=0) == method.draw(2, seed=0)


def test_pretrained_encoders_serve(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "dog", "cat", "sees", "bird", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words) + 3, **size)).save_pretrained(tmp_path)
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    tokenizer = load_pretrained(str(tmp_path))
    method = VAE(PretrainedEncoder(str(tmp_path)), 4, word_dropout=0.5)
    method.connect(tokenizer)
    rows = rows_of(tokenizer, ["the dog sees a cat .", "a bird"])
    method.loss(rows).mean().backward()
    assert all(parameter.grad is not None for name, parameter in method.named_parameters())
    assert math.isfinite(float(method.eval().loss(rows).mean().detach()))
    assert len(method.draw(3, seed=0)) == 3


def test_only_tokens_are_written_where_a_tied_embedding_has_more_rows_than_there_are_tokens(tokenizer, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=tokenizer.vocab_size + 5, **size)).save_pretrained(tmp_path)
    torch.manual_seed(0)
    method = VAE(PretrainedEncoder(str(tmp_path)), tied_embeddings=True)
    method.connect(tokenizer)
    torch.nn.init.constant_(method.decoder.head.bias[-5:].detach(), 50.0)
    for temperature in (0.0, 1.0):
        choose = Sampling(method.device, temperature)
        written = method.eval().decoder.write(torch.randn(4, method.latent_dim), 6, choose)
        assert int(written.max()) < tokenizer.vocab_size


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_bowmans_networks_resume_to_the_bit_and_their_checkpoint_needs_nothing_else(tmp_path):
    def fitted(checkpoint=None, **arguments) -> tuple[VAE, Trainer]:
        bowmans = {"decoder_layers": 1, "decoder_kind": "lstm", "word_dropout": 0.5, "annealing": "linear"}
        network = Recurrent("lstm", layers=1, dim=16, max_length=64)
        method = VAE(network, 5, annealing_steps=4, **bowmans, **PLAIN)
        run = trainer(tmp_path, limit_val_batches=0, **arguments)
        run.fit(method, data(), ckpt_path=checkpoint, weights_only=True)
        return method, run

    keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2)
    whole, run = fitted(enable_checkpointing=True, callbacks=[keep])
    resumed, _ = fitted(tmp_path / "step=2.ckpt")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.draw(3, seed=0) == whole.draw(3, seed=0)
    assert loaded.reconstruct(TEXTS[:3]) == whole.reconstruct(TEXTS[:3])
    assert torch.isfinite(loaded.score(TEXTS[:3]).nats).all()
