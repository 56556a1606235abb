"""GPT-BERT: each side beside a slow oracle or the method that it equals, and which rows are whose."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ssl_nlp.data import Blocks, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.export.convert import stock_model
from ssl_nlp.methods import CausalLM, CausalMaskedLM, MaskedLM, MultiObjective, Ramp
from ssl_nlp.objectives.masking import choose_positions, mask_tokens
from ssl_nlp.objectives.scores import Prompt
from tests.corpus import ListCorpus, random_texts
from tests.methods.validation import validate_texts

CORPUS = ListCorpus(random_texts(60))
TEXTS = [*random_texts(9, seed=1), "ü", ""]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def blocks(tokenizer) -> TokenBatch:
    """Rows of several documents; most begin within one."""
    return Blocks().rows(open_store(CORPUS, "train", tokenizer, Blocks()), tokenizer, 32)[range(8)]


@pytest.fixture(scope="module")
def sentences(tokenizer) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(random_texts(8))], None, tokenizer, 64)


def connected(tokenizer, kind=CausalMaskedLM, like=None, dropout=0.0, **arguments):
    """A method of some kind, with the weights of another one or random ones."""
    torch.manual_seed(0)
    method = kind(Transformer(size=None, dim=16, layers=2, heads=2, max_length=64, dropout=dropout), **arguments)
    method.connect(tokenizer)
    if like is None:
        for parameter in method.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    else:
        method.load_state_dict(like.state_dict())
    return method


def in_step(method, step, steps=20):
    """The method as a trainer runs it in this step."""
    method._trainer = SimpleNamespace(global_step=step, estimated_stepping_batches=steps)
    return method.train()


def seen_by(method):
    """The batches that the encoder reads, as they come."""
    seen = []
    method.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    return seen


def gradients(method, batch):
    torch.manual_seed(5)
    loss = method.train().loss(batch)
    loss.mean().backward()
    return loss, {name: parameter.grad for name, parameter in method.named_parameters()}


@pytest.mark.parametrize("rows", ["blocks", "sentences"])
def test_at_share_one_it_is_a_causal_language_model_to_the_bit(rows, tokenizer, request):
    batch = request.getfixturevalue(rows)
    method = connected(tokenizer, dropout=0.1, causal_share=1.0)
    mixed, ours = gradients(method, batch)
    alone, theirs = gradients(connected(tokenizer, CausalLM, method, dropout=0.1), batch)
    assert list(mixed.terms) == ["next_token"]
    assert torch.equal(mixed.mean(), alone.mean())
    assert all(torch.equal(gradient, theirs[name]) for name, gradient in ours.items())


@pytest.mark.parametrize("rows", ["blocks", "sentences"])
def test_at_share_zero_it_is_masked_next_token_prediction(rows, tokenizer, request):
    """The oracle reads each document of each row alone and predicts a masked token from the state before it."""
    batch = request.getfixturevalue(rows)
    method = connected(tokenizer, causal_share=0.0, masking_rate=0.9)
    torch.manual_seed(3)
    loss = method.train().loss(batch)
    torch.manual_seed(3)
    positions, chosen = choose_positions(batch, method.maskable, round(0.9 * batch.n_tokens), "token")
    first = torch.ones_like(batch.segment_ids, dtype=torch.bool)  # of its document in its row
    first[:, 1:] = batch.segment_ids[:, 1:] != batch.segment_ids[:, :-1]
    chosen &= ~first.flatten()[positions]
    hidden, _ = mask_tokens(batch.input_ids, positions, chosen, tokenizer.mask_id, method.replacements)
    masked = torch.zeros_like(first).flatten().index_fill(0, positions[chosen], True).view_as(first)
    total, targets = 0.0, 0
    with torch.no_grad():
        for row, segments in enumerate(batch.segment_ids):
            for segment in set(segments.tolist()) - {0}:
                here = segments == segment
                ids = hidden[row, here][None]
                states = method.eval().encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False))
                log_p = method.head(states)[0].double().log_softmax(-1)
                for place, (token, asked) in enumerate(zip(batch.input_ids[row, here], masked[row, here], strict=True)):
                    if asked:
                        total -= float(log_p[place - 1, token])
                        targets += 1
    [(name, term)] = loss.terms.items()
    assert name == "masked_token"
    assert int(term.targets) == targets == int(chosen.sum()) > 100
    assert float(term.total.detach()) == pytest.approx(total, rel=1e-5)
    if rows == "blocks":
        assert (masked[:, 1] & (batch.segment_ids[:, 0] == batch.segment_ids[:, 1])).any()
        assert not masked[:, 0].any()  # although most rows begin with a token that might be masked
        assert method.maskable[batch.input_ids[:, 0]].any()


def test_every_row_is_on_one_side_and_rows_count_alike(tokenizer, sentences):
    batch = replace(sentences, documents=torch.arange(8))
    method = in_step(connected(tokenizer, causal_share=0.25), 0)
    seen = seen_by(method)
    loss = method.loss(batch)
    assert {name: term.weight for name, term in loss.terms.items()} == {"masked_token": 0.75, "next_token": 0.25}
    assert [int(number) for number in loss.metrics["causal_share"]] == [2, 8]
    masked, causal = seen
    assert (masked.causal, causal.causal) == (False, True)
    assert sorted([*masked.documents.tolist(), *causal.documents.tolist()]) == list(range(8))
    assert torch.equal(causal.input_ids, batch.input_ids[causal.documents])
    hidden = masked.input_ids != batch.input_ids[masked.documents]
    assert hidden.any() and not hidden.all()
    alone = connected(tokenizer, CausalLM, method).loss(batch.select(causal.documents)).terms["next_token"]
    assert torch.equal(loss.terms["next_token"].total, alone.total)
    assert loss.terms["next_token"].targets == alone.targets
    drawn = {tuple(sorted(method._sides(batch)["next_token"].documents.tolist())) for _ in range(20)}
    assert len(drawn) > 5  # rows may be sorted by length


@pytest.mark.parametrize("share", [0.3, 1 / 16, 0.5, Ramp(1.0, 0.0), Ramp(0.1, 0.9, steps=7)])
def test_the_share_is_exact_in_the_long_run_and_as_near_as_can_be_in_each_batch(share, tokenizer, sentences):
    method = connected(tokenizer, causal_share=share)
    batch = sentences.select(torch.arange(5))
    wanted, causal = 0.0, 0
    for step in range(40):
        now = Ramp.of(share, "share").at(step, 40)
        rows = len(in_step(method, step, steps=40)._sides(batch).get("next_token", ()))
        assert abs(rows - 5 * now) <= 1
        wanted, causal = wanted + 5 * now, causal + rows
        assert abs(causal - wanted) <= 0.5 + 1e-6


def test_a_batch_too_small_for_its_share_trains_the_other_side_alone(tokenizer, sentences):
    """Both terms are there, because other processes may have rows of the side that is empty here."""
    loss = in_step(connected(tokenizer, causal_share=0.1), 0).loss(sentences.select(torch.tensor([3])))
    assert [(int(term.targets) > 0, term.weight) for term in loss.terms.values()] == [(True, 1.0), (False, 0.0)]
    assert loss.mean().isfinite()


def test_the_masking_rate_follows_its_ramp(tokenizer, sentences):
    method = connected(tokenizer, causal_share=0.0, masking_rate=Ramp(0.4, 0.1, steps=10))
    for step, rate in ((0, 0.4), (5, 0.25), (10, 0.1), (15, 0.1)):
        counted = in_step(method, step).count_targets(sentences)["masked_token"]
        assert int(counted) == round(rate * sentences.n_tokens)


def test_a_validation_asks_both_sides_what_their_own_methods_would_be_asked(tokenizer):
    """The same likelihood to the bit, and the same masks, whatever the share is."""
    method = connected(tokenizer, dropout=0.3, causal_share=1.0, masking_rate=0.5)
    found = validate_texts(method, TEXTS, batch_size=4)
    causal, masked = (connected(tokenizer, kind, method, dropout=0.3) for kind in (CausalLM, MaskedLM))
    alone = validate_texts(causal, TEXTS, batch_size=4)
    assert found["loss/next_token"] == alone["loss/next_token"]
    assert (found["perplexity"], found["bits_per_byte"]) == (alone["perplexity"], alone["bits_per_byte"])
    assert found["loss"] == pytest.approx((found["loss/next_token"] + found["loss/masked_token"]) / 2)
    # The state of another position predicts, so the loss is another one, with the same units.
    nats, other = found["loss/masked_token"], validate_texts(masked, TEXTS, batch_size=4)
    assert found["masked_perplexity"] == pytest.approx(math.exp(nats))
    assert found["masked_bits_per_byte"] / nats == pytest.approx(other["bits_per_byte"] / other["loss"])


def test_a_validation_hides_what_a_masked_language_model_would_hide(tokenizer, sentences):
    method = connected(tokenizer, masking_rate=0.9).eval()
    alone = connected(tokenizer, MaskedLM, method).eval()
    seen = [seen_by(one) for one in (method, alone)]
    targets = []
    for one in (method, alone):
        torch.manual_seed(9)
        targets.append(one.loss(sentences).terms["masked_token"].targets)
    assert torch.equal(seen[0][0].input_ids, seen[1][0].input_ids)
    assert targets[0] == targets[1]


def test_its_likelihood_is_that_of_a_causal_model_and_its_pseudo_likelihood_comes_from_the_state_before(tokenizer):
    method = connected(tokenizer).train()
    alone = connected(tokenizer, CausalLM, method)
    for scores in (method.score(TEXTS), method.score(TEXTS, kind="likelihood")):
        assert scores.kind == "likelihood"
        assert torch.equal(scores.nats, alone.score(TEXTS).nats)
    scores = method.score(TEXTS, batch_size=3, kind="pseudo-likelihood")
    assert method.training and scores.kind == "pseudo-likelihood"
    method.eval()
    for text, nats, targets in zip(TEXTS, scores.nats, scores.targets, strict=True):
        [(ids, _)] = tokenizer.encode([text])
        expected = 0.0
        for place in range(1, len(ids)):
            masked = torch.tensor([ids])
            masked[0, place] = tokenizer.mask_id
            with torch.no_grad():
                states = method.encoder(TokenBatch(masked, torch.ones_like(masked), packed=False, padded=False))
                log_p = method.head(states)[0, place - 1].double().log_softmax(-1)
            expected -= float(log_p[ids[place]])
        assert float(nats) == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert int(targets) == len(ids) - 1
    with pytest.raises(UserError, match="kind 'bound' is not one of likelihood, pseudo-likelihood"):
        method.score(TEXTS, kind="bound")


def test_it_generates_draws_and_ranks_words_as_a_causal_model_with_its_weights(tokenizer):
    method = connected(tokenizer)
    alone = connected(tokenizer, CausalLM, method)
    prompts = ["the dog sees", "", "the small red house likes the big"]
    assert method.generate(prompts, max_new_tokens=8, seed=3) == alone.generate(prompts, max_new_tokens=8, seed=3)
    assert method.draw(3, max_new_tokens=8, seed=3) == alone.draw(3, max_new_tokens=8, seed=3)
    asked = [Prompt((), "the dog ", " a cat", ("sees", "likes"))]
    assert torch.equal(method.score_words(asked).nats, alone.score_words(asked).nats)


def test_a_mask_is_filled_from_the_state_before_it(tokenizer):
    method = connected(tokenizer).eval()
    [first, second] = method.fill_mask("[MASK] dog sees the [MASK]", top_k=3)
    ids = torch.tensor([tokenizer.encode_with_masks("[MASK] dog sees the [MASK]")])
    with torch.no_grad():
        states = method.encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False))
        logits = method.head(states)[0].masked_fill(~method.maskable, -torch.inf)
    for found, place in ((first, 1), (second, ids.shape[1] - 1)):
        assert ids[0, place] == tokenizer.mask_id
        best = logits[place - 1].softmax(-1).topk(3)
        assert [token for token, _ in found] == [tokenizer.token(i) for i in best.indices.tolist()]
        assert [p for _, p in found] == pytest.approx(best.values.tolist(), rel=1e-5)
    assert method.samples(["the dog sees a cat"])[0].keys() == {"prompt", "continuation", "text", "hidden", "fillings"}


def test_a_text_is_embedded_by_the_side_that_sees_all_of_it_or_by_the_other(tokenizer):
    method = connected(tokenizer)
    both, causal = (connected(tokenizer, kind, method) for kind in (MaskedLM, CausalLM))
    assert torch.equal(method.embed(TEXTS), both.embed(TEXTS))
    assert torch.equal(method.embed(TEXTS, pooling="last", causal=True), causal.embed(TEXTS))
    assert not method.encoder.causal  # what starts from it sees whole texts, unless it asks for something else


def test_its_export_says_that_no_stock_class_has_its_head(tokenizer):
    method = connected(tokenizer)
    for module in (method, MultiObjective(method.encoder, [MaskedLM(), CausalMaskedLM()])):
        module.connect(tokenizer)
    stock = stock_model(method.eval())
    assert stock.loads_as == ["AutoModel"]
    assert "no stock class predicts a masked token from the state of the token before it" in stock.left_out[-1]
    several = stock_model(module.eval())
    assert several.loads_as == ["AutoModel", "AutoModelForMaskedLM"]
    assert several.left_out == ["It has no heads of these objectives: causal_masked_lm."]


@pytest.mark.slow
def test_both_sides_learn_sixty_four_sentences_by_heart(tokenizer):
    torch.manual_seed(0)
    method = CausalMaskedLM(Transformer(size=None, dim=48, layers=2, heads=2, max_length=64))
    method.connect(tokenizer)
    words = [f"{text} {number}" for number, text in enumerate(random_texts(64, seed=4, longest=10))]
    batch = pad_rows([ids for ids, _ in tokenizer.encode(words)], None, tokenizer, 64)
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    before = {name: float(term.total / term.targets) for name, term in method.eval().loss(batch).terms.items()}
    for step in range(300):
        torch.manual_seed(step)
        loss = method.train().loss(batch)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    after = {name: float(term.total / term.targets) for name, term in method.eval().loss(batch).terms.items()}
    assert all(after[name] < 0.3 * before[name] for name in before)


def test_bad_settings_are_refused_together(tokenizer):
    with pytest.raises(
        UserError,
        match=r"causal_share must be between 0 and 1, not 1.5; masking_rate\.end must be between 0 and 1, not 0.0",
    ):
        CausalMaskedLM(causal_share=1.5, masking_rate=Ramp(0.3, 0.0))
    with pytest.raises(UserError, match="masking_unit 'sentence' is unknown: use token, word or span"):
        CausalMaskedLM(masking_unit="sentence")
    with pytest.raises(UserError, match="needs the next tokens of a batch"):
        connected(tokenizer).loss(replace(pad_rows([[1, 5, 6]], None, tokenizer, 64), next_ids=None))
