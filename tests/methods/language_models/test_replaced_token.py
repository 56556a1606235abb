"""ELECTRA: what both models see, what is asked of them, and that it can be learned."""

import math
import random

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import BertConfig, BertModel

from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Method, Optimization, ReplacedToken
from ssl_nlp.training.optimizers import build_optimizer
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    """Sentences of unequal length: half of the positions are padding."""
    return pad_rows([ids for ids, _ in tokenizer.encode(random_texts(16))], None, tokenizer, 64)


def connected(tokenizer, encoder=None, **arguments) -> ReplacedToken:
    torch.manual_seed(0)
    encoder = encoder or Transformer(size=None, dim=32, layers=2, heads=2, max_length=64)
    method = ReplacedToken(encoder, **arguments)
    method.connect(tokenizer)
    return method


def watch(method):
    """The batches that generator and discriminator see in each call of `loss`."""
    seen = {"generator": [], "encoder": []}
    for name, batches in seen.items():
        getattr(method, name).register_forward_pre_hook(lambda _, args, batches=batches: batches.append(args[0]))
    return seen


def test_loss_equals_a_walk_over_all_tokens(tokenizer, batch):
    """The oracle sees what both models saw, and asks them token by token, padding cut off."""
    method = connected(tokenizer).eval()
    with torch.no_grad():
        counts = torch.bincount(batch.input_ids.flatten(), minlength=tokenizer.vocab_size)
        method.generator_head.bias.copy_((counts + 0.1).log())  # so that some draws are the originals
        seen = watch(method)
        loss = method.loss(batch)
        [masked], [corrupted] = seen["generator"], seen["encoder"]
        guessed = detected = 0.0
        counts = dict.fromkeys(["masked", "same", "replaced", "found", "kept", "passed"], 0)
        for row in range(len(batch)):
            size = int(batch.is_text[row].sum())
            one, hidden, changed = (b.input_ids[row, :size].tolist() for b in (batch, masked, corrupted))
            alone = TokenBatch(
                torch.tensor([hidden]), torch.ones(1, size, dtype=torch.int64), packed=False, padded=False
            )
            log_p = method.generator_head(method.generator(alone))[0].log_softmax(-1)
            states = method.encoder(alone.with_input_ids(torch.tensor([changed])))[0]
            for t in range(size):
                if hidden[t] != one[t]:
                    assert hidden[t] == tokenizer.mask_id
                    guessed -= float(log_p[t, one[t]])
                    counts["masked"] += 1
                    counts["same"] += changed[t] == one[t]
                else:
                    assert changed[t] == one[t]
                logit = float(method.detection_head(states[t]))
                probability = 1 / (1 + math.exp(-logit))
                gone = changed[t] != one[t]
                detected -= math.log(probability if gone else 1 - probability)
                counts["replaced"] += gone
                counts["found"] += gone and logit > 0
                counts["kept"] += not gone
                counts["passed"] += not gone and logit <= 0
    assert 0 < counts["same"] < counts["masked"]
    generator, discriminator = loss.terms["generator"], loss.terms["discriminator"]
    assert float(generator.total) == pytest.approx(guessed, rel=1e-5)
    assert int(generator.targets) == counts["masked"] == round(0.15 * batch.n_tokens)
    assert float(discriminator.total) == pytest.approx(detected, rel=1e-5)
    assert int(discriminator.targets) == batch.n_tokens
    assert float(loss.mean()) == pytest.approx(guessed / counts["masked"] + 50 * detected / batch.n_tokens, rel=1e-5)
    metrics = {name: (int(total), int(count)) for name, (total, count) in loss.metrics.items()}
    assert metrics == {
        "replaced_accuracy": (counts["found"], counts["replaced"]),
        "original_accuracy": (counts["passed"], counts["kept"]),
        "generator_accuracy": (counts["same"], counts["masked"]),
    }


def test_special_tokens_and_padding_are_never_masked_nor_put_in(tokenizer, batch):
    method = connected(tokenizer, masking_rate=0.8)
    special = torch.tensor(tokenizer.special_ids)
    with torch.no_grad():
        method.generator_head.bias[special] = 20.0  # they would be drawn
    seen = watch(method)
    frame = torch.isin(batch.input_ids, special)
    for step in range(10):
        torch.manual_seed(step)
        method.loss(batch)
    assert frame.sum() > len(batch)  # there is padding
    for masked, corrupted in zip(seen["generator"], seen["encoder"], strict=True):
        assert torch.equal(masked.input_ids[frame], batch.input_ids[frame])
        assert torch.equal(torch.isin(corrupted.input_ids, special), frame)


def test_validation_asks_at_its_own_rate(tokenizer, batch):
    method = connected(tokenizer, masking_rate=0.4)
    assert int(method.train().loss(batch).terms["generator"].targets) == round(0.4 * batch.n_tokens)
    assert int(method.eval().loss(batch).terms["generator"].targets) == round(0.15 * batch.n_tokens)


def test_no_gradient_goes_through_the_drawing_and_every_weight_has_one(tokenizer, batch):
    method = connected(tokenizer)
    terms = method.loss(batch).terms
    names, parameters = zip(*method.named_parameters(), strict=True)
    of_detection = torch.autograd.grad(terms["discriminator"].total, parameters, retain_graph=True, allow_unused=True)
    of_guessing = torch.autograd.grad(terms["generator"].total, parameters, retain_graph=True, allow_unused=True)
    generator = {name for name in names if name.startswith("generator")}
    shared = {name for name in names if "tok_embeddings" in name and not name.startswith("generator")}
    assert len(shared) == 1
    assert {n for n, g in zip(names, of_guessing, strict=True) if g is not None} == generator | shared
    assert {n for n, g in zip(names, of_detection, strict=True) if g is not None} == set(names) - generator


def test_the_generator_is_small_and_its_token_embeddings_are_the_encoders(tokenizer):
    encoder = Transformer(size=None, dim=256, layers=3, heads=4, max_length=64)
    method = connected(tokenizer, encoder)
    assert (method.generator.dim, method.generator.heads, method.generator.depth) == (64, 1, 3)
    rows = [
        name for name, weight in method.state_dict().items() if weight.ndim == 2 and len(weight) == tokenizer.vocab_size
    ]
    assert rows == ["encoder.embeddings.tok_embeddings.weight"]
    half = connected(tokenizer, Transformer(size=None, dim=250, layers=1, heads=5, max_length=64), generator_size=0.5)
    assert (half.generator.dim, half.generator.heads) == (124, 2)
    ids = torch.arange(10)[None]
    before = method.generator.embeddings.tok_embeddings(ids)
    with torch.no_grad():
        encoder.embedding.weight.mul_(2)
    assert torch.allclose(method.generator.embeddings.tok_embeddings(ids), 2 * before)


def test_the_seed_decides(tokenizer, batch):
    method = connected(tokenizer)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(method.loss(batch).mean().detach()))
    assert losses[0] == losses[1] != losses[2]


def test_bad_settings_are_refused_together(tokenizer):
    with pytest.raises(
        UserError, match="^masking_rate must .* 1.5; generator_size must .* 2; detection_weight must .* -1$"
    ):
        ReplacedToken(masking_rate=1.5, generator_size=2, detection_weight=-1)
    with pytest.raises(UserError, match="detection_weight must be positive and finite, not nan"):
        ReplacedToken(detection_weight=float("nan"))
    maskless = Tokenizer(tokenizer.serialize())
    maskless.mask_id = None
    with pytest.raises(UserError, match="no mask token: ReplacedToken needs one"):
        connected(maskless)


@pytest.mark.slow
def test_it_detects_what_was_replaced_in_64_sentences(tokenizer):
    generator = random.Random(0)
    words = ["".join(generator.choices(["ba", "do", "ki", "lu", "me", "ra", "su", "to"], k=3)) for _ in range(200)]
    texts = [" ".join(generator.choices(words, k=8)) for _ in range(64)]
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=600), ListCorpus(texts))
    rows = pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)
    method = connected(tokenizer, Transformer(size=None, dim=64, layers=1, heads=2, max_length=64))
    optimizer = build_optimizer(method, Optimization("muon", learning_rate=2e-3))
    rates = [group["lr"] for group in optimizer.param_groups]
    steps = 900
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / steps)
        torch.manual_seed(step)
        loss = method.loss(rows)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    method.eval()
    right = asked = found = replaced = 0
    for seed in range(10):
        torch.manual_seed(steps + seed)
        metrics = method.loss(rows).metrics
        right += int(metrics["replaced_accuracy"][0] + metrics["original_accuracy"][0])
        asked += int(metrics["replaced_accuracy"][1] + metrics["original_accuracy"][1])
        found += int(metrics["replaced_accuracy"][0])
        replaced += int(metrics["replaced_accuracy"][1])
    assert asked == 10 * rows.n_tokens
    assert right / asked > 0.95
    assert found / replaced > 0.75  # to call nothing replaced would be right in 86 % of all cases, and find nothing


def test_a_pretrained_encoder_of_another_embedding_size_can_be_the_discriminator(tokenizer, batch, tmp_path):
    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=tokenizer.vocab_size + 5, max_position_embeddings=64, **size)).save_pretrained(
        tmp_path
    )
    method = connected(tokenizer, PretrainedEncoder(str(tmp_path)))
    assert (method.generator.dim, method.generator.depth) == (8, 3)
    seen = watch(method)
    method.loss(batch).mean().backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert int(seen["encoder"][0].input_ids.max()) < tokenizer.vocab_size  # rows of the embedding that are no tokens
    assert method.embed(["the dog", "a"]).shape == (2, 32)


@pytest.mark.parametrize("unit", ["block", "sentence"])
def test_it_trains_on_rows_of_both_kinds_and_a_checkpoint_needs_nothing_but_itself(unit, tmp_path):
    data = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit=unit, length=32, batch_size=4, seed=0)
    method = ReplacedToken(Transformer(size=None, dim=16, layers=2, heads=2, max_length=64), generator_size=0.5)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=3,
        enable_checkpointing=False,
        limit_val_batches=1,
        **quiet,
    )
    trainer.fit(method, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert type(loaded) is ReplacedToken
    assert loaded.generator.dim == 8
    texts = ["the dog sees", "a bird"]
    assert torch.equal(loaded.embed(texts), method.embed(texts))
    assert loaded.samples(texts) == method.samples(texts)


def test_samples_show_what_was_replaced_and_suspected_and_leave_all_else_alone(tokenizer):
    method = connected(tokenizer).train()
    with torch.no_grad():
        method.detection_head.output.bias.fill_(5.0)  # suspects every token
    state = torch.get_rng_state()
    text = "the small red house likes the big tree"
    [row] = method.samples([text])
    assert torch.equal(state, torch.get_rng_state())
    assert method.training
    changes = row["replaced"].split(", ")
    assert changes != [""]
    assert all("(was " in change for change in changes)
    assert set(changes) <= set(row["suspected"].split(", "))
    assert row["text"] != text
    assert method.samples([]) == []
