import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM, Method, MoCo, MultiObjective, Optimization, Projection
from ssl_nlp.methods.contrastive.moco import momentum_in_step
from ssl_nlp.objectives.views import Delete
from ssl_nlp.training.callbacks import Throughput
from ssl_nlp.training.optimizers import build_optimizer
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60))
SMALL = Projection(depth=2, width=12)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


def rows(tokenizer, texts) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)


def encoder(dropout=0.1, dim=16):
    return Transformer(size=None, dim=dim, layers=1, heads=2, max_length=64, dropout=dropout)


def connected(tokenizer, dropout=0.1, **arguments):
    torch.manual_seed(0)
    method = MoCo(encoder(dropout), **({"projection": SMALL, "queue": 12} | arguments))
    method.connect(tokenizer)
    return method


def step(method, batch, optimizer):
    loss = method.loss(batch)
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()
    method.after_step()
    return loss


def sgd(method):
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.5)


def unit(vector):
    return (vector / vector.norm()).tolist()


def test_the_loss_equals_a_walk_over_the_keys_of_earlier_batches(tokenizer):
    """Pairs, one text of which occurs again; without dropout nothing is drawn. The queue of 12 forgets its first keys."""
    method = connected(tokenizer, dropout=0.0, views=[], temperature=0.3)
    optimizer = sgd(method)
    texts = random_texts(60, longest=12)
    remembered: list[tuple[str, list[float]]] = []
    for number, size in enumerate([6, 6, 4, 6, 6]):
        first, second = texts[10 * number :][:size], texts[10 * number + 5 :][:size]
        if number == 3:
            first[1], second[2], second[3] = texts[5 + 10], texts[5 + 10], texts[0]
        batch = replace(rows(tokenizer, first), pair=rows(tokenizer, second))
        queries = [unit(v) for v in method.head(method.embed_batch(batch))]
        keys = [unit(method.key_head(method.key_encoder(rows(tokenizer, [text])).mean(1))[0]) for text in second]
        expected, hits, asked = 0.0, 0, 0
        for query, key, *pair in zip(queries, keys, first, second, strict=True):
            positive = sum(map(float.__mul__, query, key))
            others = [sum(map(float.__mul__, query, old)) for text, old in remembered if text not in pair]
            terms = [math.exp(similarity / 0.3) for similarity in [positive, *others]]
            expected += math.log(sum(terms)) - positive / 0.3
            hits += positive > max(others, default=2)
            asked += bool(others)
        loss = step(method, batch, optimizer)
        assert loss.terms["info_nce"].total.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert [int(x) for x in loss.metrics["accuracy"]] == [hits, asked]
        assert (expected > 0) == (number > 0)  # nothing to tell apart before the first step
        remembered = [*remembered, *zip(second, keys, strict=True)][-12:]


def test_the_momentum_encoder_follows_the_weights_after_the_step_and_copies_buffers(tokenizer):
    method = connected(tokenizer, momentum=0.9)
    method.encoder.register_buffer("counter", torch.tensor(1))
    method.key_encoder.register_buffer("counter", torch.tensor(0))
    optimizer = sgd(method)
    batch = rows(tokenizer, random_texts(6))
    slow, fast = [method.key_encoder, method.key_head], [method.encoder, method.head]
    for _ in range(3):
        before = [value.clone() for part in slow for value in part.parameters()]
        step(method, batch, optimizer)
        after = [value for part in fast for value in part.parameters()]
        found = [value for part in slow for value in part.parameters()]
        for value, old, new in zip(found, before, after, strict=True):
            torch.testing.assert_close(value, 0.9 * old + 0.1 * new)
    assert not torch.equal(method.key_head[0].weight, method.head[0].weight)
    assert int(method.key_encoder.counter) == 1
    followers = {*method.key_encoder.parameters(), *method.key_head.parameters()}
    assert all(parameter.grad is None for parameter in followers)
    optimized = build_optimizer(method, Optimization()).param_groups
    assert not followers & {parameter for group in optimized for parameter in group["params"]}


def test_momentum_rises_as_half_a_cosine():
    assert momentum_in_step(0, 100, 0.9) == pytest.approx(0.9)
    assert momentum_in_step(50, 100, 0.9) == pytest.approx(0.95)
    assert momentum_in_step(25, 100, 0.9) == pytest.approx(1 - 0.1 * (1 + math.sqrt(0.5)) / 2)
    assert momentum_in_step(100, 100, 0.9) == momentum_in_step(150, 100, 0.9) == 1
    assert momentum_in_step(10**9, math.inf, 0.9) == pytest.approx(0.9)


@pytest.mark.parametrize(("number", "share"), [(0, 0.2), (5, 0.1), (10, 0.0)])
def test_each_step_has_the_momentum_of_the_schedule(number, share, tokenizer):
    method = connected(tokenizer, momentum=0.8)
    method._trainer = SimpleNamespace(global_step=number, estimated_stepping_batches=10)
    before = [value.clone() for value in method.key_encoder.parameters()]
    for parameter in method.encoder.parameters():
        parameter.data.add_(1)
    method.after_step()
    for value, old, new in zip(method.key_encoder.parameters(), before, method.encoder.parameters(), strict=True):
        torch.testing.assert_close(value, torch.lerp(old, new, share))


@pytest.mark.parametrize("key_dropout", [False, True])
def test_keys_have_dropout_where_it_is_asked_for(key_dropout, tokenizer):
    method = connected(tokenizer, key_dropout=key_dropout).train()
    batch = rows(tokenizer, random_texts(6))
    assert torch.equal(method.keys(batch), method.keys(batch)) == (not key_dropout)
    assert not torch.equal(method.vectors(batch), method.vectors(batch))


def test_the_queue_takes_the_odd_batch_over_its_end_and_counting_flops_leaves_it_alone(tokenizer):
    method = connected(tokenizer, queue=6)
    optimizer = sgd(method)
    seen = []
    for size, end in ((4, 4), (3, 1), (2, 3)):
        batch = rows(tokenizer, random_texts(size, seed=size))
        with torch.no_grad():
            method.loss(batch)
        step(method, batch, optimizer)
        seen += method.two_texts(batch)[2][:, 1].tolist()
        held = {i % 6: text for i, text in enumerate(seen)}
        assert method.queue_ids.tolist() == [held.get(i, -1) for i in range(6)]
        assert int(method.queue_end) == end
        filled = method.queue_ids >= 0
        torch.testing.assert_close(method.queue[filled].norm(dim=1), torch.ones(int(filled.sum())))


def test_counting_the_cost_of_a_training_leaves_the_queue_alone(tokenizer, tmp_path):
    data = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), "sentence", length=64, batch_size=4)
    queues = []
    for callbacks in ([], [Throughput()]):
        torch.manual_seed(0)
        method = MoCo(encoder(), projection=SMALL, queue=12)
        trainer = Trainer(
            max_steps=1, accelerator="cpu", limit_val_batches=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(method, data)
        queues.append(method.queue_ids)
        assert int(method.queue_end) == 4
    assert torch.equal(*queues)


def test_of_more_keys_than_the_queue_holds_it_keeps_the_last(tokenizer):
    method = connected(tokenizer, queue=6)
    batch = rows(tokenizer, random_texts(7))  # the odd rows of an epoch may join its last batch
    step(method, batch, sgd(method))
    assert method.queue_ids.tolist() == method.two_texts(batch)[2][1:, 1].tolist()


def test_the_queue_takes_the_keys_of_all_batches_of_a_step(tokenizer):
    method = connected(tokenizer, queue=12)
    batches = [rows(tokenizer, random_texts(4, seed=seed)) for seed in range(2)]
    for batch in batches:
        method.loss(batch)
    assert (method.queue_ids == -1).all()  # until the step is done
    method.after_step()
    expected = torch.cat([method.two_texts(batch)[2][:, 1] for batch in batches])
    assert method.queue_ids[:8].tolist() == expected.tolist()
    assert int(method.queue_end) == 8


class Stop(Callback):
    """Ends the run, with a checkpoint, after a number of steps."""

    def __init__(self, after, path):
        self.after, self.path = after, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.after:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def trainer(path, **arguments):
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "enable_checkpointing": False,
    }
    return Trainer(default_root_dir=path, accelerator="cpu", num_sanity_val_steps=0, **quiet, **arguments)


def data(batch_size=4):
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit="sentence", length=60, batch_size=batch_size)


def test_a_resumed_run_has_the_queue_and_the_momentum_encoder_it_left_with(tmp_path):
    """Also over the end of an epoch, whose last batch is smaller; momentum depends on the step."""

    def fresh():
        return MoCo(encoder(), [Delete(0.1)], momentum=0.8, queue=16, projection=SMALL)

    options = {"max_steps": 20, "limit_val_batches": 0}
    whole, half, resumed = fresh(), fresh(), fresh()
    trainer(tmp_path, **options).fit(whole, data())
    trainer(tmp_path, **options, callbacks=[Stop(11, tmp_path / "half.ckpt")]).fit(half, data())
    trainer(tmp_path, **options).fit(resumed, data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    expected = whole.state_dict()
    assert resumed.state_dict().keys() == expected.keys()
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert (whole.queue_ids >= 0).all()
    assert not torch.equal(half.queue, whole.queue)


def test_a_checkpoint_loads_and_embeds_with_the_encoder(tmp_path):
    method = MoCo(encoder(), [Delete(0.1)], 0.1, 0.95, 8, True, SMALL, "last", Optimization(optimizer="adamw"))
    run = trainer(tmp_path, max_steps=3, limit_val_batches=2, val_check_interval=3)
    run.fit(method, data())
    assert {"val/loss", "val/accuracy"} <= run.callback_metrics.keys()
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert isinstance(loaded, MoCo)
    assert (loaded.momentum, loaded.queue_size, loaded.key_dropout, loaded.pooling) == (0.95, 8, True, "last")
    torch.testing.assert_close(loaded.embed(["the dog", "a"]), method.embed(["the dog", "a"]))
    assert torch.equal(loaded.queue, method.queue)


def test_validation_hangs_on_neither_queue_nor_momentum_encoder(tokenizer):
    method = connected(tokenizer).eval()
    batch = rows(tokenizer, random_texts(6))
    losses = []
    for _ in range(2):
        torch.manual_seed(1)
        losses.append(method.loss(batch).mean().item())
        method.queue.normal_()
        method.queue_ids.fill_(3)
        for parameter in method.key_encoder.parameters():
            parameter.data.add_(1)
    assert losses[0] == losses[1] > 0


def test_bad_settings_are_refused(tmp_path, tokenizer):
    with pytest.raises(
        UserError,
        match="temperature must be positive and finite, not -1; momentum must be between 0 and 1, not 1.5; queue must",
    ):
        MoCo(temperature=-1, momentum=1.5, queue=0)
    with pytest.raises(UserError, match="queue 10 is not a multiple of the 4 rows of a batch over all ranks: use 8"):
        trainer(tmp_path, max_steps=1).fit(MoCo(encoder(), queue=10), data())
    two_ranks = connected(tokenizer, queue=12)
    two_ranks._trainer = SimpleNamespace(world_size=2)
    with pytest.raises(UserError, match="queue 12 is not a multiple of the 8 rows of a batch over all ranks: use 16"):
        two_ranks.check_data(data())
    blocks = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit="block", length=32, batch_size=4)
    with pytest.raises(UserError, match="MoCo reads sentence or pair rows, not block ones"):
        trainer(tmp_path, max_steps=1).fit(MoCo(encoder(), queue=8), blocks)
    with pytest.raises(UserError, match="MoCo would see the same text twice"):
        connected(tokenizer, dropout=0.0, views=[]).loss(rows(tokenizer, ["the dog"]))


@pytest.mark.slow
def test_queries_of_64_sentences_find_their_keys(tokenizer):
    long_enough = [text for text in random_texts(130, seed=2, longest=16) if len(text.split()) >= 8]
    batches = [rows(tokenizer, long_enough[:32]), rows(tokenizer, long_enough[32:64])]
    torch.manual_seed(0)
    method = MoCo(encoder(dim=32), [Delete(0.05)], queue=256, momentum=0.9)
    method.connect(tokenizer)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 3e-3)
    hits = []
    for number in range(200):
        torch.manual_seed(number)
        hits.append(int(step(method, batches[number % 2], optimizer).metrics["accuracy"][0]))
    assert sum(hits[-20:]) / (20 * 32) > 0.95


def test_it_is_one_of_several_objectives(tokenizer):
    torch.manual_seed(0)
    together = MultiObjective(encoder(), [MoCo(queue=8, projection=SMALL), MaskedLM()])
    together.connect(tokenizer)
    moco = together.objectives["moco"]
    before = [parameter.clone() for parameter in moco.key_encoder.parameters()]
    optimizer = sgd(together)
    for seed in range(2):
        step(together, rows(tokenizer, random_texts(6, seed=seed)), optimizer)
    assert (moco.queue_ids >= 0).all()
    assert not torch.equal(before[0], next(moco.key_encoder.parameters()))


def test_a_pretrained_encoder_has_a_momentum_encoder_too(tmp_path, tokenizer):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    BertModel(config).save_pretrained(tmp_path)
    method = MoCo(PretrainedEncoder(str(tmp_path)), views=[], queue=12)
    method.connect(tokenizer)
    optimizer = sgd(method)
    for seed in range(2):
        loss = step(method.train(), rows(tokenizer, random_texts(6, seed=seed)), optimizer)
    assert loss.mean().item() > 0
