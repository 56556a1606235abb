import math
from dataclasses import replace

import pytest
import torch

from ssl_nlp.commands.evaluation_tables import language_table
from ssl_nlp.comparison.columns import columns
from ssl_nlp.data import TokenBatch, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Transformer
from ssl_nlp.evaluation import LanguageModelling
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.methods import VAE, CausalLM, CausalMaskedLM, MaskedLM, Method, MultiObjective
from ssl_nlp.seeding import seed_generators
from ssl_nlp.training.module import VALIDATION_SEED
from tests.corpus import ListCorpus, random_texts
from tests.methods.validation import validate_texts

CORPUS = ListCorpus(random_texts(40))
TEXTS = [*random_texts(9, seed=1), "ü", ""]
TOKENIZER = get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


def encoder():
    return Transformer(size=None, dim=16, layers=2, heads=2, max_length=64, dropout=0.1)


def connected(method):
    torch.manual_seed(0)
    method.connect(TOKENIZER)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return method


def tokens(text):
    [(ids, _)] = TOKENIZER.encode([text])
    return ids


def language_modelling(method, texts):
    """The numbers of a method, or of each of its objectives, by evaluator."""
    return run_evaluators({"language_modelling": LanguageModelling(texts)}, method, None).results


def log_probabilities(method, ids):
    batch = TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))
    with torch.no_grad():
        return method.head(method.encoder(batch)[0]).double().log_softmax(dim=-1)


def test_the_likelihood_is_that_of_every_token_and_the_end():
    method = connected(CausalLM(encoder())).eval()
    nats, targets = 0.0, 0
    for text in TEXTS:
        ids = tokens(text)
        rows = log_probabilities(method, ids)
        for i, target in enumerate([*ids[1:], TOKENIZER.end_id]):
            nats -= float(rows[i, target])
            targets += 1
    [(name, result)] = language_modelling(method.train(), TEXTS).items()
    assert name == "language_modelling"
    assert method.training
    assert result.details["kind"] == "likelihood"
    assert result.items.shape == (len(TEXTS), 2)
    assert result.items[:, 1].tolist() == [len(text.encode()) for text in TEXTS]
    assert result.items[0, 0] == pytest.approx(float(method.score(TEXTS[:1]).nats) / math.log(2))
    assert result.metrics == {
        "loss": pytest.approx(nats / targets, rel=1e-5),
        "perplexity": pytest.approx(math.exp(nats / targets), rel=1e-4),
        "bits_per_byte": pytest.approx(nats / math.log(2) / sum(len(t.encode()) for t in TEXTS), rel=1e-5),
    }


def test_the_pseudo_likelihood_masks_each_token_in_turn():
    method = connected(MaskedLM(encoder())).eval()
    nats, count = 0.0, 0
    for text in TEXTS:
        ids = tokens(text)
        for i, target in enumerate(ids):
            if target in TOKENIZER.special_ids:
                continue
            masked = [TOKENIZER.mask_id if j == i else token for j, token in enumerate(ids)]
            nats -= float(log_probabilities(method, masked)[i, target])
            count += 1
    result = language_modelling(method.train(), TEXTS)["language_modelling"]
    assert method.training
    assert result.details == {"kind": "pseudo-likelihood", "texts": len(TEXTS)}
    assert result.metrics == {
        "pseudo_loss": pytest.approx(nats / count, rel=1e-5),
        "pseudo_perplexity": pytest.approx(math.exp(nats / count), rel=1e-4),
        "pseudo_bits_per_byte": pytest.approx(nats / math.log(2) / sum(len(t.encode()) for t in TEXTS), rel=1e-5),
    }
    assert torch.equal(method.score(TEXTS, batch_size=3).targets, method.score(TEXTS).targets)
    assert method.score(TEXTS, batch_size=3).nats == pytest.approx(method.eval().score(TEXTS).nats)


def test_each_of_several_objectives_has_its_own_kind():
    both = connected(MultiObjective(encoder(), [MaskedLM(), CausalLM()])).eval()
    results = language_modelling(both, TEXTS)
    kinds = {name: result.details["kind"] for name, result in results.items()}
    assert kinds == {
        "masked_lm.language_modelling": "pseudo-likelihood",
        "causal_lm.language_modelling": "likelihood",
    }
    # The causal objective sees no future although it shares a bidirectional encoder.
    causal = connected(CausalLM(encoder()))
    causal.encoder.load_state_dict(both.encoder.state_dict())
    causal.head.load_state_dict(both.objectives["causal_lm"].head.state_dict())
    alone = language_modelling(causal, TEXTS)["language_modelling"]
    assert results["causal_lm.language_modelling"].metrics == pytest.approx(alone.metrics)


def test_a_model_of_two_kinds_has_the_numbers_of_both_in_the_columns_of_each():
    method = connected(CausalMaskedLM(encoder()))
    alone = connected(CausalLM(encoder()))
    alone.load_state_dict(method.state_dict())
    [result] = language_modelling(method, TEXTS).values()
    exact = language_modelling(alone, TEXTS)["language_modelling"]
    assert result.primary_metric == "bits_per_byte" and result.details == exact.details
    assert {name: result.metrics[name] for name in exact.metrics} == exact.metrics
    scores = method.score(TEXTS, kind="pseudo-likelihood")
    assert result.metrics["pseudo_loss"] == pytest.approx(float(scores.nats.sum() / scores.targets.sum()))
    keys = [column.key for column in columns("docs", "language_modelling", result)]
    assert keys == ["docs/language_modelling/bits_per_byte", "docs/language_modelling/pseudo_bits_per_byte"]
    table = language_table("docs", [("both", result), ("one", exact)])
    assert [*table.columns[1].cells] == ["likelihood", "pseudo-likelihood", "likelihood"]
    assert [*table.columns[4].cells][1] == f"{result.metrics['pseudo_bits_per_byte']:,.3f}"


def test_the_bound_of_a_vae_is_that_of_its_sentences():
    method = connected(VAE(encoder(), latent_dim=4, importance_samples=8)).eval()
    texts = random_texts(8, seed=2, longest=12)  # as many as a validation batch takes for its importance sampling
    result = language_modelling(method, texts)["language_modelling"]
    assert result.primary_metric == "bits_per_byte_bound"
    assert result.details["kind"] == "bound"
    rows = sorted(TOKENIZER.encode(texts), key=lambda row: len(row[0]))
    batch = pad_rows([ids for ids, _ in rows], None, TOKENIZER, 64)
    torch.manual_seed(0)
    with torch.no_grad():
        nll = method.nll_bounds(batch, *method.posterior(batch), 200)[1]
    targets = sum(len(ids) for ids, _ in rows)  # the tokens of each text and its end
    assert result.metrics["loss_bound"] == pytest.approx(float(nll.sum()) / targets, rel=0.02)
    assert result.metrics["perplexity_bound"] == pytest.approx(math.exp(result.metrics["loss_bound"]))
    bits = result.metrics["loss_bound"] * targets / math.log(2)
    assert result.metrics["bits_per_byte_bound"] == pytest.approx(bits / sum(len(text) for text in texts), rel=1e-5)


def test_a_decoder_looks_back_also_where_its_encoder_looks_ahead():
    method = connected(VAE(encoder(), latent_dim=4)).eval()
    batch = pad_rows([tokens("the dog sees a cat")], None, TOKENIZER, 64)
    vectors = torch.ones(1, 4)
    states = method.decoder(vectors, replace(batch, causal=False))
    assert torch.equal(states, method.decoder(vectors, batch))
    changed = batch.input_ids.clone()
    changed[:, -1] = 5
    later = method.decoder(vectors, replace(batch, input_ids=changed, causal=False))
    assert torch.equal(states[:, :-1], later[:, :-1])


def test_a_method_without_likelihoods_has_a_reason_in_place_of_a_number():
    outcome = run_evaluators({"language_modelling": LanguageModelling(TEXTS)}, connected(Method(encoder())), None)
    assert outcome.results == {}
    assert outcome.missing == {"language_modelling": "Method gives no likelihood of a text"}


def alone(method, text):
    """The loss of one text, as a validation that holds nothing else would compute it."""
    [(ids, words)] = TOKENIZER.encode([text])
    batch = pad_rows([ids], [words], TOKENIZER, 64)
    seed_generators(torch.device("cpu"), VALIDATION_SEED, 0, 0)
    with torch.no_grad():
        return method.eval().loss(batch)


def test_the_score_of_a_text_is_its_loss_alone():
    method = connected(CausalLM(encoder())).train()
    scores = method.score(TEXTS, batch_size=4)
    assert method.training
    for text, nats, targets, whole in zip(TEXTS, scores.nats, scores.targets, scores.all_targets, strict=True):
        [term] = alone(method, text).terms.values()
        assert float(nats) == pytest.approx(float(term.total), rel=1e-5)
        assert int(targets) == int(whole) == int(term.targets)
    # Their sum is what a validation of all of them finds, in whichever batches.
    reported = validate_texts(method, TEXTS)
    assert float(scores.nats.sum() / scores.targets.sum()) == pytest.approx(reported["loss"], rel=1e-5)


def test_the_score_of_a_vae_is_the_importance_weighted_bound_of_each_text():
    method = connected(VAE(encoder(), latent_dim=4, importance_samples=8))
    for text in TEXTS[:3]:
        [(ids, words)] = TOKENIZER.encode([text])
        batch = pad_rows([ids], [words], TOKENIZER, 64)
        seed_generators(torch.device("cpu"), VALIDATION_SEED, 0, 0)
        with torch.no_grad():
            elbo_nll, iw_nll = method.eval().nll_bounds(batch, *method.posterior(batch), 8)
        scores = method.score([text])
        assert float(scores.nats) == pytest.approx(float(iw_nll), rel=1e-5)
        assert float(iw_nll) < float(elbo_nll)
        assert int(scores.targets) == int(alone(method, text).metrics["_tokens"][0])
    mean = float(method.score(TEXTS).nats.mean())
    assert mean == pytest.approx(validate_texts(method, TEXTS)["iw_nll"], rel=0.02)


def test_scoring_leaves_no_trace_and_repeats():
    method = connected(VAE(encoder(), latent_dim=4)).train()
    state = torch.get_rng_state()
    first = method.score(TEXTS)
    assert torch.equal(state, torch.get_rng_state())
    assert method.training
    assert torch.equal(method.score(TEXTS).nats, first.nats)
    empty = method.score([])
    assert len(empty.nats) == len(empty.targets) == 0


def test_a_text_that_the_encoder_is_too_short_for_counts_by_what_it_reads():
    method = connected(CausalLM(Transformer(size=None, dim=16, layers=2, heads=2, max_length=8)))
    scores = method.score(["the dog sees a cat in the red house of the bird", "a"])
    assert int(scores.targets[0]) == 8 < int(scores.all_targets[0])
    assert int(scores.targets[1]) == int(scores.all_targets[1])


def test_bits_per_byte_of_texts_that_the_encoder_is_too_short_for_are_those_of_what_it_reads():
    short = Transformer(size=None, dim=16, layers=2, heads=2, max_length=8)
    method = connected(MaskedLM(short)).eval()
    text = " ".join(random_texts(9, seed=1))
    metrics = language_modelling(method, [text])["language_modelling"].metrics
    tokens_per_byte = sum(token not in TOKENIZER.special_ids for token in tokens(text)) / len(text.encode())
    assert metrics["pseudo_bits_per_byte"] == pytest.approx(metrics["pseudo_loss"] / math.log(2) * tokens_per_byte)


@pytest.mark.parametrize("kind", ["word", "char", "wordpiece"])
def test_bits_per_byte_pay_for_the_spelling_of_unknown_tokens(kind):
    """A model that knows only the letter a would otherwise be better than one that knows what else was said."""
    few = get_tokenizer(TokenizerSettings(kind, vocab_size=320), ListCorpus(["a a"] * 9))
    method = CausalLM(encoder())
    method.connect(few)
    texts = ["a bc", "über a", "a"]
    cost = [2 + 1, len("über".encode()) + 1, 0]
    if kind == "char":
        cost = [1 + 1 + 1 + 1, 5 + 4, 0]  # a token for each letter; that of a space is known
    assert method.spelling(texts).tolist() == pytest.approx([number * math.log(257) for number in cost])
    [result] = language_modelling(method, texts).values()
    scores = method.score(texts)
    bits = (float(scores.nats.sum()) + sum(cost) * math.log(257)) / math.log(2)
    assert result.metrics["bits_per_byte"] == pytest.approx(bits / sum(len(text.encode()) for text in texts))
    assert result.metrics["loss"] == pytest.approx(float(scores.nats.sum() / scores.targets.sum()))
    assert connected(CausalLM(encoder())).spelling(TEXTS).tolist() == [0] * len(TEXTS)  # bytes know everything
