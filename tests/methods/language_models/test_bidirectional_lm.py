"""ELMo's pair of language models: losses by a walk over every document, what each direction sees, what is kept."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from ssl_nlp.data import Blocks, TextDataModule, TokenBatch, Tokenizer
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder, Recurrent, Trained, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import BidirectionalLM, CausalLM, MaskedLM, Optimization
from ssl_nlp.tasks import Classification
from ssl_nlp.training.module import Module
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import save_untrained
from tests.methods.test_every_method import trainer
from tests.methods.validation import validate_texts

CORPUS = ListCorpus(random_texts(60))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    """Packed rows, the last of which ends in padding."""
    blocks = Blocks().rows(open_store(CORPUS, "train", tokenizer, Blocks()), tokenizer, 32)
    return blocks[[0, 1, 2, len(blocks) - 1]]


def connected(tokenizer: Tokenizer, **arguments) -> BidirectionalLM:
    torch.manual_seed(0)
    method = BidirectionalLM(Recurrent(separate=True, dim=16, max_length=64, **arguments))
    method.connect(tokenizer)
    return method.eval()


def test_the_losses_equal_a_walk_over_every_document(tokenizer, batch):
    """The oracle reads each document of each row alone, once from either side, and predicts the next token each time."""
    method = connected(tokenizer).requires_grad_(False)
    assert batch.packed and batch.padded
    totals = {"next_token": 0.0, "previous_token": 0.0}
    numbers = {"next_token": 0, "previous_token": 0}
    for row in range(len(batch)):
        for segment in range(1, int(batch.segment_ids[row].max()) + 1):
            here = batch.segment_ids[row] == segment
            ids = batch.input_ids[row, here]
            alone = TokenBatch(ids[None], torch.ones_like(ids)[None], packed=False, padded=False)
            forward, backward = method.encoder(alone)[0].split(8, dim=1)
            for t, following in enumerate(batch.next_ids[row, here].tolist()):
                if following != IGNORE_INDEX:
                    totals["next_token"] -= float(method.head(forward[t]).log_softmax(-1)[following])
                    numbers["next_token"] += 1
            for t in range(1, len(ids)):
                totals["previous_token"] -= float(method.head(backward[t]).log_softmax(-1)[ids[t - 1]])
                numbers["previous_token"] += 1
    loss = method.loss(batch)
    assert numbers["previous_token"] < numbers["next_token"] == batch.n_tokens
    for name, term in loss.terms.items():
        assert int(term.targets) == numbers[name]
        assert float(term.total) == pytest.approx(totals[name], rel=1e-5)
    expected = sum(totals[name] / numbers[name] for name in totals)
    assert float(loss.mean()) == pytest.approx(expected, rel=1e-5)


def test_the_loss_at_initialisation_is_that_of_guessing_twice(tokenizer, batch):
    assert float(connected(tokenizer).loss(batch).mean()) == pytest.approx(2 * math.log(tokenizer.vocab_size), rel=0.01)


def losses(method: BidirectionalLM, batch: TokenBatch) -> dict[str, list[float]]:
    """The loss of each target of a row, by direction."""
    found: dict[str, list[float]] = {}
    original = method.head.loss

    def each(hidden, targets):
        found[f"direction {len(found)}"] = method.head.losses(hidden, targets).tolist()
        return original(hidden, targets)

    method.head.loss = each
    method.loss(batch)
    method.head.loss = original
    return found


def test_no_prediction_sees_what_it_predicts_or_what_lies_behind(tokenizer):
    """A changed token changes, of the forward losses, those at its place and after it and the one that predicts it."""
    method = connected(tokenizer)
    [(ids, _)] = tokenizer.encode(["the small red house likes the big tree"])
    row = pad_rows([ids], None, tokenizer, 64)
    spot = len(ids) // 2
    other = row.input_ids.clone()
    other[0, spot] = other[0, spot] + 1
    following = row.next_ids.clone()
    following[0, spot - 1] = other[0, spot]
    before = losses(method, row)
    after = losses(method, replace(row, input_ids=other, next_ids=following))
    changed = [[a != b for a, b in zip(before[k], after[k], strict=True)] for k in ("direction 0", "direction 1")]
    assert changed[0] == [t >= spot - 1 for t in range(len(ids))]
    assert changed[1] == [0 < t <= spot + 1 for t in range(len(ids))]


def test_both_texts_of_a_pair_are_predicted(tokenizer):
    method = connected(tokenizer)
    first, second = (
        pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)
        for texts in (["the dog", "a cat sees"], ["the small red house likes the big tree", "a bird"])
    )
    both = replace(first, pair=second)
    found = method.loss(both).terms
    for name, term in found.items():
        assert float(term.total) == pytest.approx(
            sum(float(method.loss(part).terms[name].total) for part in (first, second)), rel=1e-5
        )
    assert {name: int(count) for name, count in method.count_targets(both).items()} == {
        name: int(count) for name, count in Module.count_targets(method, both).items()
    }


def test_the_score_of_a_text_is_that_of_the_forward_model_as_a_validation_finds_it(tokenizer):
    method, texts = connected(tokenizer), random_texts(9, seed=3, longest=12)
    scores = method.score(texts)
    found = validate_texts(method, texts)
    assert float(scores.nats.sum() / scores.targets.sum()) == pytest.approx(found["loss/next_token"], rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss/next_token"]), rel=1e-5)
    for text, nats in zip(texts, scores.nats.tolist(), strict=True):
        [(ids, _)] = tokenizer.encode([text])
        row = torch.tensor([ids])
        forward = method.encoder(TokenBatch(row, torch.ones_like(row), packed=False, padded=False))[0, :, :8]
        log_p = method.head(forward).log_softmax(-1)
        expected = -sum(float(log_p[t, token]) for t, token in enumerate([*ids[1:], tokenizer.end_id]))
        assert nats == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("within_words", [False, True])
def test_the_pseudo_likelihood_weighs_both_sides_of_each_token_by_bayes_rule(tokenizer, within_words):
    """The oracle reads what precedes a token and what follows it as texts of their own, one after the other."""
    method = connected(tokenizer).requires_grad_(False)
    texts = [f"the unseen {text}" for text in random_texts(5, seed=3, longest=6)]  # "unseen" has several tokens
    method.token_counts.copy_(torch.arange(tokenizer.vocab_size) % 7)
    prior = (method.token_counts + 1) / (method.token_counts + 1).sum()
    content = [token for token in range(tokenizer.vocab_size) if token not in tokenizer.special_ids]

    def p(ids: list[int], place: int) -> torch.Tensor:
        """(V,) by the state of the forward (place -1) or the backward model (place 0) after it has read the tokens."""
        row = torch.tensor([ids])
        states = method.encoder(TokenBatch(row, torch.ones_like(row), packed=False, padded=False))[0, place]
        return method.head(states.chunk(2)[place + 1]).softmax(-1)

    for text in texts:
        [(ids, starts)] = tokenizer.encode([text])
        expected, targets = 0.0, 0
        for t, token in enumerate(ids):
            if token in tokenizer.special_ids:
                continue
            chances = p(ids[:t], -1)
            if t + 1 < len(ids) and (starts[t + 1] or not within_words):
                chances = chances * p(ids[t + 1 :], 0) / prior
            expected -= math.log(float(chances[token] / chances[content].sum()))
            targets += 1
        scores = method.pseudo_score([text]) if within_words else method.score([text], kind="pseudo-likelihood")
        assert scores.nats.tolist() == pytest.approx([expected], rel=1e-5)
        assert scores.targets.tolist() == scores.all_targets.tolist() == [targets] and not scores.cut.any()
        assert scores.kind == "pseudo-likelihood"
        assert not all(starts)


def test_a_token_that_nothing_precedes_is_predicted_by_what_follows_it():
    framed = json.loads(get_tokenizer(TokenizerSettings(kind="word", vocab_size=320), CORPUS).serialize())
    tokenizer = Tokenizer(json.dumps(framed | {"prefix": [], "suffix": framed["prefix"]}))
    method = connected(tokenizer)
    [(ids, _)] = tokenizer.encode(["dog"])
    row = torch.tensor([ids])
    backward = method.encoder(TokenBatch(row, torch.ones_like(row), packed=False, padded=False))[0, 1, 8:]
    p = method.head(backward).softmax(-1)
    expected = -math.log(float(p[ids[0]] / p[method.maskable].sum()))
    scores = method.score(["dog"], kind="pseudo-likelihood")
    assert scores.nats.tolist() == pytest.approx([expected], rel=1e-5)
    assert scores.targets.tolist() == scores.all_targets.tolist() == [1] and not scores.cut.any()


def test_a_kind_of_scores_that_it_has_not_is_refused(tokenizer):
    with pytest.raises(UserError, match="kind 'bound' is not one of likelihood, pseudo-likelihood"):
        connected(tokenizer).score(["a"], kind="bound")


@pytest.mark.parametrize("encoder", [Recurrent(dim=8), Transformer("tiny")], ids=lambda encoder: type(encoder).__name__)
def test_an_encoder_whose_directions_see_each_other_is_refused(encoder, tokenizer):
    with pytest.raises(UserError, match="needs an encoder whose two directions .* separate set to true") as caught:
        BidirectionalLM(encoder).connect(tokenizer)
    assert "\n" not in str(caught.value)


def test_its_encoder_serves_other_methods_and_tasks_but_not_causal_ones(tokenizer, tmp_path):
    source = connected(tokenizer)
    path = str(save_untrained(source, tokenizer, tmp_path / "a.ckpt"))
    for other in (MaskedLM, lambda encoder: Classification(encoder, classes=["a", "b"])):
        encoder: Encoder = Trained(path)
        other(encoder).connect(tokenizer)
        row = torch.tensor([[1, 7, 8, 9]])
        batch = TokenBatch(row, torch.ones_like(row), packed=False, padded=False)
        assert torch.equal(encoder.eval()(batch), source.encoder(batch))
    with pytest.raises(UserError, match=r"needs a causal encoder, and encoder\.separate is true"):
        CausalLM(Trained(path)).connect(tokenizer)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_it_learns_64_sentences_and_a_resumed_run_ends_with_the_same_bits(tmp_path):
    texts = ListCorpus(random_texts(64, longest=8))

    def fit(checkpoint: Path | None = None) -> BidirectionalLM:
        encoder = Recurrent(separate=True, dim=128, layers=1, max_length=64, dropout=0.05)
        method = BidirectionalLM(encoder, optimization=Optimization(learning_rate=0.02, warmup=0))
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=70)
        run = trainer(tmp_path, 100, limit_val_batches=0, callbacks=[] if checkpoint else [keep])
        data = TextDataModule(texts, TokenizerSettings(vocab_size=300), "sentence", length=32, batch_size=32, seed=0)
        run.fit(method, data, ckpt_path=checkpoint, weights_only=True)
        return method

    whole = fit()
    scores = whole.score(texts.texts["train"])
    assert float(scores.nats.sum() / scores.targets.sum()) < 1.0  # of 15 words drawn at random, others cost 2.7
    resumed = fit(tmp_path / "step=70.ckpt").state_dict()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed[key]), key
