"""The bound of a masked diffusion: by enumeration, and tight for the right denoiser."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ssl_nlp.data import Blocks, TokenBatch, Tokenizer
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import TextCNN, Transformer
from ssl_nlp.encoders.language_head import HeadLayers
from ssl_nlp.evaluation import LanguageModelling
from ssl_nlp.export.convert import stock_model
from ssl_nlp.methods import CausalLM, MaskedDiffusion, MultiObjective, Ramp
from ssl_nlp.methods.language_models import masked_diffusion
from ssl_nlp.modules.heads import LanguageModelHead
from ssl_nlp.objectives.lengths import length_log_probabilities
from ssl_nlp.objectives.masked_diffusion import Hidden
from tests.corpus import WORDS, random_texts
from tests.methods.language_models.small_diffusion import (
    CORPUS,
    LONGEST,
    conditionals,
    connected,
    content,
    counted,
    of_letters,
    order_losses,
    row_of,
)
from tests.methods.validation import validate_texts


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def small() -> MaskedDiffusion:
    return of_letters()


def all_masks(length: int) -> list[tuple[int, ...]]:
    places = range(length)
    return [mask for size in range(1, length + 1) for mask in itertools.combinations(places, size)]


def exact_bound(method: MaskedDiffusion, tokens: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> float:
    """The method's loss of a text over all masks, each with its probability, in one batch."""
    prefix, length = method.tokenizer.prefix, len(tokens)
    masks = all_masks(length)
    hidden = torch.zeros(len(masks), len(prefix) + length, dtype=torch.bool)
    weights = torch.zeros(hidden.shape)
    for row, mask in enumerate(masks):
        places = [len(prefix) + place for place in mask]
        hidden[row, places] = True
        probability = 1 / length / math.comb(length, len(mask))
        weights[row, places] = probability * length / len(mask)
    monkeypatch.setattr(masked_diffusion, "hide_tokens", lambda *arguments: Hidden(hidden, weights))
    batch = pad_rows([[*prefix, *tokens]] * len(masks), None, method.tokenizer, 64)
    method.train()
    with torch.no_grad():
        loss = method.loss(batch).terms["bound"]
        lengths = method._length_nats(batch)
    method.eval()
    assert int(loss.targets) == len(masks) * (length + 1)
    return float(loss.total - lengths.sum()) + float(lengths[0])


def test_the_loss_over_all_masks_is_the_mean_over_orders_and_the_integral_over_times(small, monkeypatch):
    for length in (1, 2, LONGEST):
        tokens = tuple(content(small)[-length:])
        log_p, cost = conditionals(small, tokens), 0.0
        for mask in all_masks(length):
            k, visible = len(mask), set(range(length)) - set(mask)
            # Beta(k, L - k + 1): the integral of 1/t * t^k * (1 - t)^(L - k)
            weight = math.factorial(k - 1) * math.factorial(length - k) / math.factorial(length)
            cost -= weight * sum(log_p(place, visible) for place in mask)
        losses = order_losses(small, tokens)
        assert cost == pytest.approx(sum(losses) / len(losses), rel=1e-6)
        log_q, _ = length_log_probabilities(small.length_counts, torch.tensor(0))
        assert exact_bound(small, tokens, monkeypatch) == pytest.approx(cost - float(log_q[length]), rel=1e-5)


def test_the_bounded_probabilities_of_all_texts_of_all_lengths_add_up_to_one(small, monkeypatch):
    """And no bound is below the -log p of the distribution that the model writes from in random order."""
    log_q, log_at_least = length_log_probabilities(small.length_counts, torch.tensor(0))
    total, gaps = math.exp(log_q[0]), []
    for length in (1, 2, LONGEST):
        for tokens in itertools.product(content(small), repeat=length):
            losses = order_losses(small, tokens)
            p = math.exp(log_q[length]) * sum(math.exp(-loss) for loss in losses) / len(losses)
            total += p
            gaps.append(exact_bound(small, tokens, monkeypatch) + math.log(p))
    assert total + math.exp(log_at_least[LONGEST + 1]) == pytest.approx(1, abs=1e-5)
    assert min(gaps) > -1e-5
    assert max(gaps) > 0.01


class Exact(torch.nn.Module):
    """The log-conditionals of a Markov chain over `tokens`, as hidden states: it tries all texts that fit."""

    def __init__(self, tokens: list[int], mask_id: int, width: int, length: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        start, step = torch.rand(len(tokens)).softmax(0), (3 * torch.rand(len(tokens), len(tokens))).softmax(1)
        self.table = {}
        for text in itertools.product(range(len(tokens)), repeat=length):
            p = float(start[text[0]]) * math.prod(float(step[pair]) for pair in itertools.pairwise(text))
            self.table[tuple(tokens[i] for i in text)] = p
        self.mask_id, self.width = mask_id, width

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        states = torch.full((*batch.input_ids.shape, self.width), 1e-9)
        for row, (_, *seen) in enumerate(batch.input_ids.tolist()):
            for text, p in self.table.items():
                if all(one in (token, self.mask_id) for one, token in zip(seen, text, strict=True)):
                    states[row, range(1, len(text) + 1), list(text)] += p
        return states.log()


def test_the_bound_of_the_right_denoiser_is_tight(small, monkeypatch):
    """For a Markov chain each text costs its -log p, so that the mean over texts is the entropy."""
    tokenizer = small.tokenizer
    method = connected(tokenizer)
    method.length_counts[LONGEST] = 10**9  # so that the length costs nothing
    width = tokenizer.vocab_size
    identity = torch.nn.Embedding.from_pretrained(torch.eye(width))
    method.head = LanguageModelHead(
        width, identity, HeadLayers(None, torch.nn.Identity(), None, None, None), ~method.predicted
    )
    method.add_module("encoder", Exact(content(method)[-3:], tokenizer.mask_id, width, LONGEST))
    entropy = mean = 0.0
    for tokens, p in method.encoder.table.items():
        bound = exact_bound(method, tokens, monkeypatch)
        assert bound == pytest.approx(-math.log(p), abs=1e-4)
        entropy -= p * math.log(p)
        mean += p * bound
    assert mean == pytest.approx(entropy, abs=1e-4)
    assert 1 < entropy < LONGEST * math.log(3)


def test_drawn_masks_find_the_bound_within_their_standard_error(small):
    for length in (1, 2, LONGEST):
        tokens = tuple(content(small)[-length:])
        losses = order_losses(small, tokens)
        batch = pad_rows([[*small.tokenizer.prefix, *tokens]] * 300, None, small.tokenizer, 64)
        torch.manual_seed(0)
        bounds, variances = small.bounds(batch, 4)
        expected = sum(losses) / len(losses) + float(small._length_nats(batch)[0])
        error = float(variances.sum().sqrt()) / 300
        assert float(bounds.mean()) == pytest.approx(expected, abs=4 * error + 1e-5)
        if length > 1:
            assert 0.3 * error < float(bounds.std()) / math.sqrt(300) < 1.2 * error


@pytest.mark.parametrize(("weighting", "most"), [("even", 1.0), ("bound", 1.0), ("even", 0.4), ("bound", 0.4)])
def test_the_loss_equals_a_walk_over_every_document(tokenizer, monkeypatch, weighting, most):
    """The oracle reads each document of each packed row alone, with the masks that were drawn for it."""
    method = connected(tokenizer, weighting=weighting, max_masking_rate=most)
    method.length_counts[:20] = torch.arange(20)
    rows = Blocks().rows(open_store(CORPUS, "train", tokenizer, Blocks()), tokenizer, 32)
    batch, drawn = rows[range(len(rows))], []
    real = masked_diffusion.hide_tokens
    monkeypatch.setattr(masked_diffusion, "hide_tokens", lambda *a: drawn.append(real(*a)) or drawn[-1])
    with torch.no_grad():
        loss = method.train().loss(batch).terms["bound"]
    log_q, log_at_least = length_log_probabilities(method.length_counts, torch.tensor(0))
    total, targets = 0.0, 0
    special = set(tokenizer.special_ids)
    for row in range(len(batch)):
        for segment in set(batch.segment_ids[row].tolist()) - {0}:
            here = batch.segment_ids[row] == segment
            ids, hidden = batch.input_ids[row, here], drawn[0].tokens[row, here]
            length, k = sum(token not in special for token in ids.tolist()), int(hidden.sum())
            with torch.no_grad():
                states = method.encoder(row_of(torch.where(hidden, tokenizer.mask_id, ids).tolist()))
                log_p = method.head(states)[0].log_softmax(-1)
            largest = max(int(most * length), 1)
            assert (1 <= k <= largest) or k == length == 0
            weight = length / k if weighting == "bound" and k else 2 * length / (largest + 1)
            total -= sum(weight * float(log_p[i, ids[i]]) for i in hidden.nonzero().flatten().tolist())
            ended = int(batch.next_ids[row, here][-1]) == tokenizer.end_id
            total -= float(log_q[length] if ended else log_at_least[length + 1])
            targets += length + ended
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    causal = CausalLM(Transformer(None, dim=16, layers=1, heads=2, max_length=64))
    causal.connect(tokenizer)
    assert int(loss.targets) == targets == int(causal.count_targets(batch)["next_token"])


def test_the_largest_share_of_hidden_tokens_rises_in_training_and_not_in_validation(tokenizer, monkeypatch):
    method = connected(tokenizer, max_masking_rate=Ramp(0.25, 1.0, steps=4))
    batch = pad_rows([[*tokenizer.prefix, *[tokenizer.encode(["a"])[0][0][-1]] * 40]] * 64, None, tokenizer, 64)
    drawn: list[Hidden] = []
    real = masked_diffusion.hide_tokens
    monkeypatch.setattr(masked_diffusion, "hide_tokens", lambda *a: drawn.append(real(*a)) or drawn[-1])
    for step, most in ((0, 10), (2, 25), (4, 40), (100, 40)):
        monkeypatch.setattr(MaskedDiffusion, "step", step)
        drawn.clear()
        with torch.no_grad():
            method.train().loss(batch)
            method.eval().loss(batch)
        largest = [int(hidden.tokens.sum(dim=1).max()) for hidden in drawn]
        assert largest == [most] + [40] * method.draws


def test_the_parts_of_cut_documents_and_their_lengths_have_a_distribution(small):
    """In a row with room for 2 tokens a text has 0, 1 or 2 tokens, or more and is cut off: that is all that can be."""
    prefix, token = small.tokenizer.prefix, content(small)[-1]
    whole = [pad_rows([[*prefix, *[token] * n]], None, small.tokenizer, 64) for n in range(3)]
    cut = pad_rows([[*prefix, *[token] * 3]], None, small.tokenizer, 3)
    assert sum(math.exp(-small._length_nats(batch)) for batch in [*whole, cut]) == pytest.approx(1, abs=1e-6)


def test_the_closing_token_of_a_text_that_ended_in_the_row_before_costs_nothing(small):
    row = replace(row_of([small.tokenizer.end_id]), next_ids=torch.tensor([[IGNORE_INDEX]]))
    assert float(small._length_nats(row)) == 0


def test_lengths_are_those_of_the_training_texts(tokenizer, tmp_path):
    method = connected(tokenizer, max_length=16)
    lengths = [len(ids) - 1 for ids, _ in tokenizer.encode(CORPUS.texts["train"])]
    method.take_counts(counted(tokenizer, CORPUS.texts["train"]))
    counts = [lengths.count(n) for n in range(17)]
    assert method.length_counts.tolist() == [*counts, len(lengths) - sum(counts)]
    stream = counted(tokenizer, CORPUS.texts["train"])  # of whose texts only the validation texts are counted
    stream.corpus = SimpleNamespace(streaming=True)
    method.take_counts(stream)
    log_p, log_at_least = method._length_distribution()
    assert [log_p[5].exp(), log_at_least[5].exp()] == pytest.approx([(17 / 18) ** 5 / 18, (17 / 18) ** 5])


def test_neither_masks_nor_frames_are_ever_predicted(small):
    tokenizer = small.tokenizer
    probabilities = small.head(small.encoder(row_of([*tokenizer.prefix, tokenizer.mask_id])))[0, -1].softmax(-1)
    assert (probabilities == 0).tolist() == [
        i in (tokenizer.pad_id, tokenizer.mask_id, *tokenizer.prefix) for i in range(7)
    ]


def test_validation_reports_its_standard_error(tokenizer):
    """It is about the deviation of the loss of whole validations with other draws, or more."""
    method = connected(tokenizer, draws=3)
    texts = random_texts(30, seed=2)
    reported = validate_texts(method, texts)
    assert reported["perplexity"] == pytest.approx(math.exp(reported["loss"]))
    batch = pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)
    losses = []
    for seed in range(100):
        torch.manual_seed(seed)
        losses.append(float(method.loss(batch).mean()))
    assert reported["loss"] == pytest.approx(sum(losses) / 100, abs=4 * reported["loss_se"])
    assert 0.4 < torch.tensor(losses).std() / reported["loss_se"] < 1.2


def test_the_score_of_a_text_is_its_loss_in_a_validation(tokenizer):
    method = connected(tokenizer, draws=16)
    texts = [*random_texts(9, seed=1), "ü", ""]
    scores, reported = method.score(texts), validate_texts(method, texts)
    assert scores.kind == "bound"
    assert float(scores.nats.sum() / scores.targets.sum()) == pytest.approx(reported["loss"], rel=1e-5)
    assert float(scores.variances.sum().sqrt() / scores.targets.sum()) == pytest.approx(reported["loss_se"], rel=1e-4)
    assert scores.targets.tolist() == scores.all_targets.tolist() == [len(ids) for ids, _ in tokenizer.encode(texts)]
    assert torch.equal(method.score(texts).nats, scores.nats)
    result = LanguageModelling(texts)(method)
    assert result.primary_metric == "bits_per_byte_bound"
    assert result.primary == pytest.approx(reported["bits_per_byte"], rel=1e-5)
    relative = reported["loss_se"] / reported["loss"]
    assert result.details["standard_error"] == pytest.approx(relative * result.primary, rel=1e-4)
    [cut] = connected(tokenizer, max_length=8).score([" ".join(texts)]).targets
    assert int(cut) == 7


def test_among_several_objectives_it_is_what_it_is_alone(tokenizer):
    texts = random_texts(12, seed=2)
    together = MultiObjective(
        Transformer(None, dim=16, layers=1, heads=2, max_length=64), [CausalLM(), MaskedDiffusion()]
    )
    together.connect(tokenizer)
    together.take_counts(counted(tokenizer, CORPUS.texts["train"]))
    alone = connected(tokenizer)
    alone.encoder.load_state_dict(together.encoder.state_dict())
    alone.head.load_state_dict(together.objectives["masked_diffusion"].head.state_dict())
    alone.take_counts(counted(tokenizer, CORPUS.texts["train"]))
    found, expected = validate_texts(together, texts), validate_texts(alone, texts)
    assert found["loss/masked_diffusion/bound"] == pytest.approx(expected["loss"], rel=1e-5)
    for name in ("loss_se", "bits_per_byte", "perplexity"):
        assert found[f"masked_diffusion/{name}"] == pytest.approx(expected[name], rel=1e-5)
    assert not any("/_" in name for name in found)


def test_its_export_is_an_encoder_without_head(tokenizer):
    stock = stock_model(connected(tokenizer))
    assert stock.logits is None
    assert stock.left_out == [
        "It has no head that predicts hidden tokens: every stock class would give the mask itself a probability."
    ]


@pytest.mark.slow
def test_it_learns_64_sentences_by_heart(tokenizer):
    """With convolutions: a Transformer needs seven times as long, because it must also learn where its neighbours are."""
    texts = random_texts(64, longest=6)
    encoded = [ids for ids, _ in tokenizer.encode(texts)]
    torch.manual_seed(0)
    method = MaskedDiffusion(TextCNN(dim=96, embedding_dim=96, max_length=64))
    method.connect(tokenizer)
    method.take_counts(counted(tokenizer, texts))
    batch = pad_rows(encoded, None, tokenizer, 64)
    optimizer = torch.optim.AdamW(method.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 300)
    for step in range(300):
        torch.manual_seed(step)
        loss = method.loss(batch)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        schedule.step()
    words = [text.split() for text in texts]
    guessing = sum(len(text) * math.log(len(WORDS)) for text in words) / len(words)
    assert math.log(64) < float(method.score(texts).nats.mean()) < 0.7 * guessing
    questions = [" ".join([*text[: len(text) // 2], "[MASK]", *text[len(text) // 2 + 1 :]]) for text in words]
    filled = method.infill(questions, temperature=0)
    assert sum(one == other for one, other in zip(filled, texts, strict=True)) >= 58  # guessing would find 4
