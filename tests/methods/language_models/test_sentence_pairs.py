"""Masked language models over pairs: next-sentence and sentence-order prediction."""

import math
import random
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import BertConfig, BertModel, BertTokenizerFast

from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.sentences import split_sentences
from ssl_nlp.data.tokenizer import get_tokenizer, load_pretrained
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM, Method, Optimization
from ssl_nlp.modules.pooling import pool
from ssl_nlp.training.optimizers import build_optimizer
from tests.corpus import ListCorpus, random_texts

NAMES = {"next": "next_sentence", "order": "sentence_order"}
SENTENCES = random_texts(300, longest=20)
PARAGRAPHS = ListCorpus(["\n".join(SENTENCES[i : i + 5]) for i in range(0, 300, 5)])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), PARAGRAPHS)


def connected(tokenizer, encoder=None, **arguments) -> MaskedLM:
    torch.manual_seed(0)
    encoder = encoder or Transformer(size=None, dim=32, layers=2, heads=2, max_length=128)
    method = MaskedLM(encoder, **arguments)
    method.connect(tokenizer)
    return method


def pairs(tokenizer, first: list[str], second: list[str]) -> TokenBatch:
    rows, others = (pad_rows(*zip(*tokenizer.encode(texts), strict=True), tokenizer, 64) for texts in (first, second))
    return replace(rows, pair=others, documents=torch.arange(len(first)))


def watch(method) -> list[tuple[TokenBatch, torch.Tensor]]:
    """What the encoder is given in each call: the batch and what is added to its embeddings."""
    seen = []
    method.encoder.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0], kwargs.get("added"))), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize("kind", ["next", "order"])
def test_loss_equals_a_walk_over_the_pairs(kind, tokenizer):
    """The oracle tells pairs apart by their tokens, all distinct but for the masks."""
    first, second = random_texts(12, seed=1), random_texts(12, seed=2)
    batch = pairs(tokenizer, first, second)
    method = connected(tokenizer, sentence_pairs=kind, masking_rate=0.2)
    seen = watch(method)
    one, other = ([ids for ids, _ in tokenizer.encode(texts)] for texts in (first, second))
    candidates = [(a + b, i == j, len(a)) for i, a in enumerate(one) for j, b in enumerate(other)]
    if kind == "order":
        candidates = [(a + b, True, len(a)) for a, b in zip(one, other, strict=True)]
        candidates += [(b + a, False, len(b)) for a, b in zip(one, other, strict=True)]
    with torch.no_grad():
        loss = method.loss(batch)
    [(rows, added)] = seen
    assert added is not None
    total, right, masked, truths = 0.0, 0, 0, set()
    for row in range(12):
        ids = rows.input_ids[row, rows.is_text[row]].tolist()

        def kept(candidate, ids=ids):
            return sum(a == b for a, b in zip(candidate[0], ids, strict=True)) if len(candidate[0]) == len(ids) else -1

        original, true, size = max(candidates, key=kept)
        masked += sum(a != b for a, b in zip(original, ids, strict=True))
        parts = torch.tensor([0] * size + [1] * (len(ids) - size))
        assert torch.equal(added[row, : len(ids)], method.part_embedding.weight[parts])
        alone = TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64), packed=False, padded=False)
        state = method.encoder(alone, added=method.part_embedding(parts))[0, 0]
        log_p = method.pair_head.output(method.pair_head.dense(state).tanh()).log_softmax(0)
        total -= float(log_p[int(true)].detach())
        right += int(log_p.argmax()) == int(true)
        truths.add(true)
    assert truths == {True, False}
    term = loss.terms[NAMES[kind]]
    assert float(term.total) == pytest.approx(total, rel=1e-5)
    assert int(term.targets) == 12
    assert [int(x) for x in loss.metrics[f"{NAMES[kind]}_accuracy"]] == [right, 12]
    asked = int(loss.terms["masked_token"].targets)
    assert asked == round(0.2 * batch.all_tokens)  # one text alone has half as many
    assert 0.8 * asked < masked <= asked
    assert float(loss.mean()) == pytest.approx(float(sum(t.total / t.targets for t in loss.terms.values())))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["next", "order"])
def test_it_tells_true_from_false_among_64_pairs(kind):
    """The texts of a pair share a word that no other pair has; which one comes first has to be learned by heart."""
    generator = random.Random(0)
    words = ["".join(generator.choices(["ba", "do", "ki", "lu", "me", "ra", "su", "to"], k=3)) for _ in range(200)]
    first, second = ([f"{word} {' '.join(generator.choices(words, k=2))}" for word in words[:64]] for _ in range(2))
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=600), ListCorpus(first + second))
    batch = pairs(tokenizer, first, second)
    encoder = Transformer(size=None, dim=64, layers=2, heads=2, max_length=64)
    method = connected(tokenizer, encoder, sentence_pairs=kind, masking_rate=0.05)
    steps, rate = {"next": (400, 6e-3), "order": (250, 2e-3)}[kind]
    optimizer = build_optimizer(method, Optimization("muon", learning_rate=rate))
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / steps)
        torch.manual_seed(step)
        loss = method.loss(batch)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    correct = asked = 0
    with torch.no_grad():
        for seed in range(10):
            torch.manual_seed(steps + seed)
            right, number = method.loss(batch).metrics[f"{NAMES[kind]}_accuracy"]
            correct, asked = correct + int(right), asked + int(number)
    assert asked == 640
    assert correct / asked > 0.95


def test_a_text_alone_is_the_first_part(tokenizer):
    method = connected(tokenizer, sentence_pairs="next").eval()
    with torch.no_grad():
        method.part_embedding.weight[0] = torch.randn(32)
    texts = ["the dog sees", "a"]
    batch = pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)
    with torch.no_grad():
        states = method.encoder(batch, added=method.part_embedding.weight[0].expand(1, 1, -1))
    assert torch.allclose(method.embed(texts), pool(states, batch, "mean"), atol=1e-6)
    before = method.fill_mask("the [MASK]"), method.score(texts).nats
    frame = len(tokenizer.prefix)
    expected = 0.0
    for place in range(frame, len(batch.input_ids[1][batch.is_text[1]]) - len(tokenizer.suffix)):
        row = batch.input_ids[1:, : int(batch.is_text[1].sum())].clone()
        target, row[0, place] = int(row[0, place]), tokenizer.mask_id
        hidden = TokenBatch(row, torch.ones_like(row), packed=False, padded=False)
        with torch.no_grad():
            states = method.encoder(hidden, added=method.part_embedding.weight[0].expand(1, 1, -1))
            expected -= float(method.head(states)[0, place].log_softmax(-1)[target])
    assert float(before[1][1]) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        method.part_embedding.weight[0].neg_()
    assert method.fill_mask("the [MASK]") != before[0]


def test_without_the_option_nothing_is_added(tokenizer):
    method = connected(tokenizer)
    seen = watch(method)
    method.loss(pairs(tokenizer, ["the dog"], ["a cat"]))
    assert seen[0][1] is None
    assert not hasattr(method, "part_embedding")
    assert method.units == ("block", "sentence")


def test_a_pretrained_encoder_reads_its_own_frame_around_two_texts(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "dog", "cat", "sees", "##s", ".", ","]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **size)).save_pretrained(tmp_path)
    tokenizer = load_pretrained(str(tmp_path))
    method = connected(tokenizer, PretrainedEncoder(str(tmp_path)), sentence_pairs="order", masking_rate=0.01)
    seen = watch(method)
    loss = method.loss(pairs(tokenizer, ["the dog sees the cat", "a dog"], ["a cat", "the cat sees"]))
    for row in seen[0][0].input_ids.tolist():
        special = [words[i] for i in row if i in (2, 3)]
        assert special == ["[CLS]", "[SEP]", "[SEP]"]
        assert words[row[0]] == "[CLS]"
    loss.mean().backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_settings_that_do_not_fit_are_refused(tokenizer, tmp_path):
    with pytest.raises(UserError, match="sentence_pairs 'both' is unknown: use next or order, or leave it out"):
        MaskedLM(sentence_pairs="both")
    method = connected(tokenizer, sentence_pairs="next")
    with pytest.raises(UserError, match="sentence_pairs next needs pairs of texts: set data.unit to pair"):
        method.loss(pad_rows([[2, 5, 6]], None, tokenizer, 64))
    with pytest.raises(UserError, match="MaskedLM reads pair rows, not sentence ones: set data.unit to pair"):
        trainer(tmp_path).fit(MaskedLM(small_encoder(), sentence_pairs="next"), data("sentence"))
    with pytest.raises(UserError, match="MaskedLM reads block or sentence rows, not pair ones"):
        trainer(tmp_path).fit(MaskedLM(small_encoder()), data("pair"))
    with pytest.raises(UserError, match="data.batch_size 1 leaves nothing to exchange: use at least 2"):
        trainer(tmp_path).fit(MaskedLM(small_encoder(), sentence_pairs="next"), data("pair", batch_size=1))
    trainer(tmp_path).fit(MaskedLM(small_encoder(), sentence_pairs="order"), data("pair", batch_size=1))


def small_encoder() -> Transformer:
    return Transformer(size=None, dim=16, layers=2, heads=2, max_length=64)


def data(unit, batch_size=4) -> TextDataModule:
    settings = TokenizerSettings(vocab_size=320)
    return TextDataModule(PARAGRAPHS, settings, unit=unit, length=64, batch_size=batch_size, seed=0)


def trainer(path) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(default_root_dir=path, accelerator="cpu", max_steps=3, enable_checkpointing=False, **quiet)


def test_it_trains_on_pairs_and_a_checkpoint_needs_nothing_but_itself(tmp_path):
    method = MaskedLM(small_encoder(), sentence_pairs="next")
    runner = trainer(tmp_path)
    runner.fit(method, data("pair"))
    runner.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert (type(loaded), loaded.sentence_pairs, loaded.units) == (MaskedLM, "next", ("pair",))
    assert torch.equal(loaded.embed(["the dog", "a"]), method.embed(["the dog", "a"]))
    [metrics] = runner.validate(method, data("pair"), verbose=False)
    assert runner.validate(method, data("pair"), verbose=False) == [metrics]
    assert {"val/loss/masked_token", "val/loss/next_sentence", "val/next_sentence_accuracy"} <= set(metrics)
    nats = metrics["val/loss/masked_token"]
    assert metrics["val/loss"] == pytest.approx(nats + metrics["val/loss/next_sentence"], rel=1e-5)
    tokens = size = 0
    for document in PARAGRAPHS.documents("valid"):
        sentences = split_sentences(document.text)
        for sentence in sentences[: len(sentences) // 2 * 2]:
            tokens += len(loaded.tokenizer.encode([sentence])[0][0]) - 1
            size += len(sentence.encode())
    assert metrics["val/bits_per_byte"] == pytest.approx(nats * tokens / size / math.log(2), rel=1e-5)
