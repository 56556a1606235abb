import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer

import ssl_nlp.methods.contrastive.simclr
from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.batch import concatenate
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM, Method, MultiObjective, Optimization, Projection, SimCLR
from ssl_nlp.objectives.views import Crop, Delete, Mask, Repeat, Replace, ShuffleSpans
from tests.corpus import ListCorpus, random_texts
from tests.memory import PeakMemory

CORPUS = ListCorpus(random_texts(60))
SMALL = Projection(depth=2, width=12)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


def rows(tokenizer, texts) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    return rows(tokenizer, random_texts(8, longest=12))


@pytest.fixture(scope="module")
def pairs(tokenizer, batch) -> TokenBatch:
    return replace(batch, pair=rows(tokenizer, random_texts(8, seed=1, longest=12)))


def encoder(dropout=0.1, dim=16, **arguments):
    return Transformer(size=None, dim=dim, layers=2, heads=2, max_length=64, dropout=dropout, **arguments)


def connected(tokenizer, dropout=0.1, seed=0, **arguments):
    torch.manual_seed(seed)
    method = SimCLR(encoder(dropout), **({"projection": SMALL} | arguments))
    method.connect(tokenizer)
    return method


def oracle(method, first, second, temperature, decoupled=False):
    """NT-Xent one text at a time, each encoded alone and without its padding; the number of hits, too."""
    texts = [
        row[:n].tolist() for side in (first, second) for row, n in zip(side.input_ids, side.is_text.sum(1), strict=True)
    ]
    vectors = []
    for ids in texts:
        row = torch.tensor([ids])
        hidden = method.encoder(TokenBatch(row, torch.ones_like(row), packed=False, padded=False))
        vector = method.head(hidden.mean(dim=1))[0]
        vectors.append((vector / vector.norm()).tolist())
    half, total, hits = len(texts) // 2, 0.0, 0
    pair_of = lambda i: {tuple(texts[i]), tuple(texts[(i + half) % len(texts)])}  # noqa: E731
    for i, vector in enumerate(vectors):
        mate = (i + half) % len(texts)
        similarity = [sum(map(float.__mul__, vector, other)) for other in vectors]
        others = [j for j in range(len(texts)) if j != mate and not pair_of(i) & pair_of(j)]
        candidates = others if decoupled else [*others, mate]
        total += (
            math.log(sum(math.exp(similarity[j] / temperature) for j in candidates)) - similarity[mate] / temperature
        )
        hits += similarity[mate] > max(similarity[j] for j in others)
    return total, hits


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_loss_of_pairs_equals_a_walk_over_all_texts(decoupled, tokenizer, pairs):
    method = connected(tokenizer, dropout=0.0, views=[], temperature=0.3, decoupled=decoupled)
    loss = method.loss(pairs)
    expected, hits = oracle(method, pairs, pairs.pair, 0.3, decoupled)
    assert loss.terms["info_nce"].total.item() == pytest.approx(expected, rel=1e-4)
    assert int(loss.terms["info_nce"].targets) == 16
    assert int(loss.metrics["accuracy"][0]) == hits


def test_texts_of_rows_that_share_a_text_are_no_negatives(tokenizer):
    texts = random_texts(6, longest=12)
    first = rows(tokenizer, [*texts[:3], texts[0]])
    second = rows(tokenizer, [texts[3], texts[4], texts[4], texts[5]])
    method = connected(tokenizer, dropout=0.0, views=[], temperature=0.5)
    loss = method.loss(replace(first, pair=second)).terms["info_nce"]
    assert loss.total.item() == pytest.approx(oracle(method, first, second, 0.5)[0], rel=1e-4)


def test_a_batch_of_one_sentence_over_and_over_has_no_negatives(tokenizer):
    method = connected(tokenizer)
    assert method.loss(rows(tokenizer, ["the dog sees a cat"] * 5)).mean().item() == 0


def test_dropout_alone_makes_two_views(tokenizer, batch):
    method = connected(tokenizer, views=[])
    seen = []
    method.head.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    loss = method.loss(batch)
    first, second = seen[0].chunk(2)
    assert (first - second).abs().max() > 1e-2
    assert float(loss.mean()) > 0


def test_each_text_goes_through_all_views_on_its_own(tokenizer, pairs):
    views = [Delete(0.2), Crop(0.9), ShuffleSpans(2), Replace(0.1), Mask(0.1), Repeat(0.3)]
    method = connected(tokenizer, views=views)
    seen = []
    method.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    method.loss(replace(pairs, pair=None))
    method.loss(pairs)
    of_sentences, of_pairs = seen
    first, second = of_sentences.input_ids.chunk(2)
    assert not torch.equal(first, second)
    words = lambda batch, i: set(batch.input_ids[i, batch.is_text[i]].tolist())  # noqa: E731
    vocabulary = set(range(tokenizer.vocab_size))
    for i in range(8):
        assert words(of_sentences, i) != words(pairs, i)
        assert len(words(of_pairs, 8 + i) & words(pairs.pair, i)) >= 2
    assert set(of_pairs.input_ids.flatten().tolist()) <= vocabulary


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_validation_asks_every_run_the_same(pooling, tokenizer, batch, pairs):
    """Two methods with the same weights but other settings, one of them without any view, validate alike."""
    methods = [
        connected(tokenizer, dropout=0.0, pooling=pooling, views=[Crop(0.5)], temperature=0.5, decoupled=True),
        connected(tokenizer, dropout=0.5, pooling=pooling, views=[], chunk=4),
    ]
    for asked in (batch, pairs):
        losses = []
        for method in methods:
            torch.manual_seed(3)
            losses.append(float(method.eval().loss(asked).mean()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    other = methods[0]
    seen = []
    other.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].input_ids))
    other.loss(replace(batch, pair=None))
    first, second = seen[0].chunk(2)
    assert not torch.equal(first, second)
    other.loss(pairs)
    assert torch.equal(seen[1], concatenate([pairs, pairs.pair], tokenizer.pad_id).input_ids)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_chunks_change_nothing_but_what_is_in_memory(dropout, tokenizer, batch, monkeypatch):
    """Without dropout, against no chunks; with it, against chunks of which all is kept: random states are replayed."""

    def gradients(method):
        torch.manual_seed(5)
        loss = method.loss(batch).mean()
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in method.parameters()])

    loss, gradient = gradients(connected(tokenizer, dropout, chunk=3))
    if dropout:
        monkeypatch.setattr(ssl_nlp.methods.contrastive.simclr, "checkpoint", lambda f, *a, use_reentrant: f(*a))
        plain = connected(tokenizer, dropout, chunk=3)
    else:
        plain = connected(tokenizer, dropout)
    expected_loss, expected = gradients(plain)
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=0)
    assert gradient.abs().max() > 1e-2


def test_chunks_let_a_batch_fit_where_a_sixteenth_did(tokenizer):
    def peak(number, chunk):
        method = connected(tokenizer, chunk=chunk, views=[])
        ids = torch.randint(5, tokenizer.vocab_size, (number, 60))
        large = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)
        with PeakMemory() as memory:
            method.loss(large).mean().backward()
        return memory.peak

    assert peak(128, chunk=4) < peak(8, chunk=None) < peak(128, chunk=None) / 10


def test_the_temperature_is_learned_in_its_logarithm_and_not_below_a_hundredth(tokenizer, pairs):
    method = connected(tokenizer, dropout=0.0, views=[], temperature=0.2, learn_temperature=True)
    loss = method.loss(pairs)
    loss.mean().backward()
    step = 1e-3
    losses = []
    for sign in (1, -1):
        shifted = connected(tokenizer, dropout=0.0, views=[], temperature=0.2 * math.exp(sign * step))
        losses.append(float(shifted.loss(pairs).mean()))
    slope = (losses[0] - losses[1]) / (2 * step)
    assert method.log_temperature.grad.item() == pytest.approx(slope, rel=1e-2)
    assert float(loss.metrics["temperature"][0]) == pytest.approx(0.2)
    method.log_temperature.data.fill_(-30)
    method.after_step()
    assert float(method.temperature) == pytest.approx(0.01)
    method.log_temperature.grad = None
    method.loss(pairs).mean().backward()
    assert method.log_temperature.grad.item() != 0  # it can rise again


def test_bad_settings_are_refused(tokenizer, batch, pairs):
    for arguments, message in [
        ({"temperature": 0.0}, "temperature must be positive and finite, not 0.0"),
        ({"temperature": 0.001, "learn_temperature": True}, "below 0.01"),
        ({"chunk": 0}, "chunk must be 1 or more, or null, not 0"),
        ({"pooling": "cls"}, "pooling 'cls' is unknown: use mean, first or last"),
    ]:
        with pytest.raises(UserError, match=message):
            SimCLR(**arguments)
    with pytest.raises(UserError, match="not -1 and 0"):
        Projection(-1, 0)
    for views in ([], [Delete(0.0)], [Crop(1.0), Mask(0.0), Repeat(0.0)]):
        same = connected(tokenizer, dropout=0.0, views=views)
        with pytest.raises(UserError, match="SimCLR would see the same text twice: set the encoder's dropout above 0"):
            same.loss(batch)
        same.loss(pairs)


@pytest.mark.parametrize(
    ("method", "unit", "message"),
    [
        ({"views": []}, "sentence", "the same text twice"),
        ({"views": [Repeat(0.0)]}, "sentence", "the same text twice"),
        ({"batch_size": 1}, "sentence", "a batch of one row has no negatives: set data.batch_size to 2 or more"),
        ({"views": [Repeat(0.5)]}, "sentence", "make 90 tokens of data.length 60, and the encoder's max_length is 64"),
        ({}, "block", "SimCLR reads sentence or pair rows, not block ones: set data.unit to sentence or pair"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_begins(method, unit, message, tmp_path):
    batch_size = method.pop("batch_size", 4)
    data = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit=unit, length=60, batch_size=batch_size)
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, max_steps=1).fit(SimCLR(encoder(0.0), **method), data)


def test_views_may_fill_the_encoder_with_the_half_that_each_text_of_a_pair_is(tmp_path):
    corpus = ListCorpus([*zip(random_texts(60), random_texts(60, seed=1), strict=True)])
    data = TextDataModule(corpus, TokenizerSettings(vocab_size=320), unit="pair", length=60, batch_size=4)
    trainer(tmp_path, max_steps=1).fit(SimCLR(encoder(0.0), views=[Repeat(0.5)]), data)


def trainer(path, **arguments):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(
        default_root_dir=path,
        accelerator="cpu",
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        **quiet,
        **arguments,
    )


@pytest.mark.slow
def test_two_views_of_64_sentences_are_told_from_all_others(tokenizer):
    long_enough = [text for text in random_texts(130, seed=2, longest=16) if len(text.split()) >= 8]
    sentences = rows(tokenizer, long_enough[:64])
    torch.manual_seed(0)
    method = SimCLR(encoder(dim=32), [Delete(0.1)])
    method.connect(tokenizer)
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    hits = []
    for step in range(120):
        torch.manual_seed(step)
        loss = method.loss(sentences)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        hits.append(int(loss.metrics["accuracy"][0]))
    assert len(sentences) == 64
    assert sum(hits[-20:]) / (20 * 128) > 0.95


def test_a_checkpoint_holds_views_projection_and_pooling(tmp_path):
    views = [Delete(0.3), ShuffleSpans(3)]
    method = SimCLR(
        encoder(), views, 0.1, True, SMALL, "first", True, 3, Optimization(learning_rate=5e-3, optimizer="adamw")
    )
    data = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit="sentence", length=60, batch_size=8)
    run = trainer(tmp_path, max_steps=3, limit_val_batches=2, val_check_interval=3)
    run.fit(method, data)
    assert {"val/loss", "val/accuracy"} <= run.callback_metrics.keys()
    assert float(method.temperature) != pytest.approx(0.1, abs=1e-6)
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert isinstance(loaded, SimCLR)
    assert (loaded.views, loaded.projection, loaded.pooling, loaded.chunk) == (views, SMALL, "first", 3)
    torch.testing.assert_close(loaded.embed(["the dog", "a"]), method.embed(["the dog", "a"]))
    torch.testing.assert_close(loaded.temperature, method.temperature)


def test_two_runs_with_one_seed_are_equal(tokenizer, batch):
    totals = []
    for _ in range(2):
        method = connected(tokenizer, views=[Delete(0.2), Replace(0.2)])
        torch.manual_seed(7)
        totals.append(float(method.loss(batch).terms["info_nce"].total))
    assert totals[0] == totals[1]


def test_it_is_one_of_several_objectives(tokenizer, batch):
    torch.manual_seed(0)
    together = MultiObjective(encoder(), [SimCLR(views=[], projection=SMALL), MaskedLM()])
    together.connect(tokenizer)
    together.loss(batch).mean().backward()
    assert all(parameter.grad is not None for parameter in together.parameters())


def test_a_pretrained_encoder_brings_dropout_or_is_refused(tmp_path, batch, pairs, tokenizer):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    BertModel(config).save_pretrained(tmp_path)
    method = SimCLR(PretrainedEncoder(str(tmp_path)), views=[], projection=SMALL)
    method.connect(tokenizer)
    method.train().loss(batch).mean().backward()
    assert method.encoder.embedding.weight.grad.abs().max() > 0
    without = SimCLR(PretrainedEncoder(str(tmp_path), dropout=0.0), views=[])
    without.connect(tokenizer)
    with pytest.raises(UserError, match="the same text twice"):
        without.loss(batch)
