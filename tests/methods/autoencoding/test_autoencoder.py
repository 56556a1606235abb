import math

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import BertConfig, BertModel, BertTokenizerFast, GPT2Config, GPT2Model

from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer, load_pretrained
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Autoencoder, Method, Optimization
from ssl_nlp.methods.autoencoding.sentence_decoding import examined
from ssl_nlp.objectives.views import Delete, Mask, Replace, ShuffleSpans
from ssl_nlp.training.optimizers import build_optimizer
from tests.corpus import ListCorpus, random_texts

TEXTS = random_texts(64, longest=8)
CORPUS = ListCorpus(random_texts(60))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(TEXTS[:10])], None, tokenizer, 64)


def connected(tokenizer, dim=32, **arguments) -> Autoencoder:
    torch.manual_seed(0)
    method = Autoencoder(Transformer(size=None, dim=dim, layers=2, heads=2, max_length=64), **arguments)
    method.connect(tokenizer)
    return method


def test_the_loss_at_initialisation_is_that_of_guessing(tokenizer, batch):
    loss = connected(tokenizer, latent_dim=8).loss(batch)
    assert float(loss.mean().detach()) == pytest.approx(math.log(tokenizer.vocab_size), rel=0.01)


@pytest.mark.parametrize("arguments", [{}, {"latent_dim": 7, "tied_embeddings": True}])
def test_the_loss_equals_a_walk_over_every_sentence(arguments, tokenizer, batch):
    """The oracle encodes each sentence alone, and asks for each token with nothing but the vector and those before."""
    method = connected(tokenizer, **arguments).eval()
    total, targets = 0.0, 0
    for text in TEXTS[:10]:
        [vector] = method.embed([text])
        [(ids, _)] = tokenizer.encode([text])
        for t, following in enumerate([*ids[1:], tokenizer.end_id]):
            before = torch.tensor([ids[: t + 1]])
            row = TokenBatch(before, torch.ones_like(before), packed=False, padded=False)
            log_p = method.decoder.head(method.decoder(vector[None], row)[0, -1]).log_softmax(-1)
            total -= float(log_p[following].detach())
            targets += 1
    loss = method.loss(batch).terms["reconstruction"]
    assert int(loss.targets) == targets
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-5)
    each = method.decoder.sentence_losses(method.embed(TEXTS[:10]), batch, batch.next_ids)
    assert float(each.sum()) == pytest.approx(total, rel=1e-5)


def test_accuracies_are_those_of_writing_without_a_cache_from_the_vector_alone(tokenizer, batch):
    method = connected(tokenizer, latent_dim=8)
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    for _ in range(60):  # so far that some tokens are right, and not all
        optimizer.zero_grad()
        method.loss(batch).mean().backward()
        optimizer.step()
    method.eval()
    right = asked = exact = 0
    reconstructions = method.reconstruct(TEXTS[:10])
    for text, vector, reconstruction in zip(TEXTS[:10], method.embed(TEXTS[:10]), reconstructions, strict=True):
        [(ids, _)] = tokenizer.encode([text])
        expected = [*ids[1:], tokenizer.end_id]
        written = []
        for _ in range(max(len(ids) for ids, _ in tokenizer.encode(TEXTS[:10]))):
            row = pad_rows([ids[:1] + written], None, tokenizer, 64)
            logits = method.decoder.head(method.decoder(vector[None], row)[0, -1])
            logits[[i for i in tokenizer.special_ids if i != tokenizer.end_id]] = -torch.inf
            written.append(int(logits.argmax()))
            if written[-1] == tokenizer.end_id:
                break
        right += sum(a == b for a, b in zip(written, expected, strict=False))
        asked += len(expected)
        exact += written == expected
        assert reconstruction == tokenizer.decode(written)
    assert 0 < right < asked
    found = method.accuracies(method.embed_batch(batch), batch)
    assert [int(x) for x in found["token_accuracy"]] == [right, asked]
    assert [int(x) for x in found["exact_match"]] == [exact, 10]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "steps"), [("transformer", 300), ("lstm", 150)])
def test_it_overfits_and_writes_every_sentence_back(kind, steps, tokenizer):
    method = connected(tokenizer, dim=64, latent_dim=48, decoder_kind=kind)
    rows = pad_rows([ids for ids, _ in tokenizer.encode(TEXTS)], None, tokenizer, 64)
    optimizer = torch.optim.AdamW(method.parameters(), 4e-3)
    for _ in range(steps):  # so long that every token is certain: which one wins hangs on no rounding
        optimizer.zero_grad()
        method.loss(rows).mean().backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
    metrics = method.eval().loss(rows).metrics
    assert float(metrics["exact_match"][0] / metrics["exact_match"][1]) == 1
    assert float(metrics["token_accuracy"][0] / metrics["token_accuracy"][1]) == 1
    assert method.reconstruct(TEXTS) == TEXTS
    with pytest.raises(UserError, match="is a single text: give a list of texts"):
        method.reconstruct(TEXTS[0])
    assert method.samples([TEXTS[3], ""])[0] == {"text": TEXTS[3], "reconstruction": TEXTS[3]}


def test_what_was_cut_off_is_not_asked_for(tokenizer):
    """The encoder has not seen it."""
    ids = [ids for ids, _ in tokenizer.encode(TEXTS[:10])]
    length = sorted(map(len, ids))[5]
    targets = connected(tokenizer).targets(pad_rows(ids, None, tokenizer, length))
    cut = [len(row) > length for row in ids]
    assert 0 < sum(cut) < 10
    for row, target in zip(ids, targets.tolist(), strict=True):
        following = row[1:length] + ([tokenizer.end_id] if len(row) <= length else [])
        assert [t for t in target if t != -100] == following


def test_noise_is_for_training_and_the_original_is_always_the_target(tokenizer, batch):
    noise = [Delete(0.3), Mask(0.2), Replace(0.2), ShuffleSpans(2)]
    method, plain = connected(tokenizer, noise=noise), connected(tokenizer)
    seen = []
    method.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))

    def loss(of, seed):
        torch.manual_seed(seed)
        return of.loss(batch).terms["reconstruction"]

    noisy = loss(method, 0)
    assert int(noisy.targets) == int((batch.next_ids != -100).sum())
    assert seen[-1].is_text.sum() < batch.n_tokens
    assert (seen[-1].input_ids == tokenizer.mask_id).any()
    assert loss(method, 0).total == noisy.total != loss(method, 1).total
    assert loss(method.eval(), 0).total == loss(method, 1).total == loss(plain.eval(), 0).total
    assert torch.equal(method.embed(TEXTS[:10]), plain.embed(TEXTS[:10]))


def test_every_parameter_has_a_gradient_and_tied_embeddings_are_one(tokenizer, batch):
    for tied in (False, True):
        method = connected(tokenizer, latent_dim=8, tied_embeddings=tied)
        method.loss(batch).mean().backward()
        assert all(parameter.grad is not None for parameter in method.parameters())
        tables = [p for p in method.parameters() if p.shape == (tokenizer.vocab_size, 32)]
        assert len(tables) == 2 - tied
        groups = build_optimizer(method, Optimization()).param_groups
        assert sum(len(group["params"]) for group in groups) == len(list(method.parameters()))


def test_embeddings_have_the_width_of_the_bottleneck_and_do_not_depend_on_their_batch(tokenizer):
    for latent_dim, width in ((None, 32), (5, 5)):
        method = connected(tokenizer, latent_dim=latent_dim)
        texts = ["the dog", "a", "the small red house likes the big tree", ""]
        together = method.embed(texts, batch_size=4)
        assert together.shape == (4, width)
        assert torch.allclose(together, torch.cat([method.embed([text]) for text in texts]), atol=1e-5)


def test_it_trains_validates_and_its_checkpoint_needs_nothing_else(tmp_path):
    data = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit="sentence", length=64, batch_size=4, seed=0)
    method = Autoencoder(
        Transformer(size=None, dim=16, layers=2, heads=2, max_length=64), 8, [Delete(0.6)], 1, tied_embeddings=True
    )
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=4, enable_checkpointing=False, **quiet)
    trainer.fit(method, data)
    [metrics] = trainer.validate(method, data, verbose=False)
    assert metrics.keys() == {"val/loss", "val/token_accuracy", "val/exact_match"}
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.noise == [Delete(0.6)]
    assert loaded.decoder.transformer.embedding is loaded.encoder.embedding
    assert torch.equal(loaded.embed(TEXTS[:5]), method.embed(TEXTS[:5]))
    assert loaded.reconstruct(TEXTS[:5]) == method.reconstruct(TEXTS[:5])


def test_pretrained_encoders_serve_if_they_are_bidirectional(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "dog", "cat", "sees", "bird", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words) + 3, **size)).save_pretrained(tmp_path)
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    tokenizer = load_pretrained(str(tmp_path))
    method = Autoencoder(PretrainedEncoder(str(tmp_path)), 4, [Delete(0.5)], tied_embeddings=True)
    method.connect(tokenizer)
    batch = pad_rows([ids for ids, _ in tokenizer.encode(["the dog sees a cat .", "a bird"])], None, tokenizer, 16)
    loss = method.loss(batch)
    assert int(loss.terms["reconstruction"].targets) == 7 + 3  # words and [SEP]
    loss.mean().backward()
    assert method.encoder.embedding.weight.grad is not None
    assert len(method.reconstruct(["the dog", "a bird sees"])) == 2
    GPT2Model(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UserError, match="needs a bidirectional encoder"):
        Autoencoder(PretrainedEncoder(str(tmp_path / "gpt2"))).connect(tokenizer)


def test_bad_settings_are_refused(tokenizer, tmp_path):
    with pytest.raises(UserError, match="latent_dim must be 1 or more, not 0"):
        Autoencoder(latent_dim=0)
    with pytest.raises(UserError, match="decoder_layers must be 1 or more, not 0"):
        Autoencoder(decoder_layers=0)
    with pytest.raises(UserError, match="decoder_kind 'lstn' is unknown: use transformer, rnn, lstm, gru"):
        Autoencoder(decoder_kind="lstn")
    data = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit="block", length=64)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match="Autoencoder reads sentence rows, not block ones: set data.unit to sentence"):
        trainer.fit(Autoencoder(Transformer(size=None, dim=16, layers=1, heads=2)), data)
    maskless = Tokenizer(tokenizer.serialize().replace(f'"mask": {tokenizer.mask_id}', '"mask": null'))
    with pytest.raises(UserError, match="no mask token"):
        connected(maskless, noise=[Mask(0.1)])
    bare = Tokenizer(tokenizer.serialize().replace('"prefix": [2], "suffix": []', '"prefix": [], "suffix": [2]'))
    with pytest.raises(UserError, match="this tokenizer puts none there"):
        connected(bare)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 32])
def test_examined_rows_are_spread_over_the_batch(size):
    rows = examined(size).tolist()
    assert rows == sorted(set(rows))
    assert len(rows) == min(size, 8)
    assert rows[0] == 0 and rows[-1] >= size - max(size / 8, 1) - 1
