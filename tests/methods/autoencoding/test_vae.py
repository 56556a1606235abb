import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import VAE, Optimization
from ssl_nlp.training.optimizers import build_optimizer
from tests.methods.autoencoding.small_vae import PLAIN, connected
from tests.methods.sentences import CORPUS, TEXTS, data, encoder, rows_of, trainer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    return rows_of(tokenizer, TEXTS[:10])


def walk(method, tokenizer, text, z) -> float:
    """-log p(text | z), token by token, from one row that grows."""
    [(ids, _)] = tokenizer.encode([text])
    total = 0.0
    for t, following in enumerate([*ids[1:], tokenizer.end_id]):
        hidden = method.decoder(z[None], rows_of_ids(ids[: t + 1]))
        total -= float(method.decoder.head(hidden[0, -1]).log_softmax(-1)[following].detach())
    return total


def rows_of_ids(ids) -> TokenBatch:
    row = torch.tensor([ids])
    return TokenBatch(row, torch.ones_like(row), packed=False, padded=False)


def test_the_loss_equals_a_walk_over_every_sentence(tokenizer, batch):
    method = connected(tokenizer, latent_dim=3, beta=0.7, **PLAIN)
    torch.manual_seed(5)
    loss = method.loss(batch)
    torch.manual_seed(5)
    noise = torch.randn(10, 3)
    reconstruction = kl = 0.0
    for i, text in enumerate(TEXTS[:10]):
        mean, log_variance = (x[0].detach() for x in method.posterior(rows_of(tokenizer, [text])))
        reconstruction += walk(method, tokenizer, text, mean + (log_variance / 2).exp() * noise[i])
        for m, v in zip(mean.tolist(), log_variance.tolist(), strict=True):
            kl += float(kl_divergence(Normal(m, math.exp(v / 2)), Normal(0.0, 1.0)))
    assert [int(term.targets) for term in loss.terms.values()] == [10, 10]
    assert float(loss.terms["reconstruction"].total.detach()) == pytest.approx(reconstruction, rel=1e-5)
    assert float(loss.terms["kl"].total.detach()) == pytest.approx(kl, rel=1e-5)
    assert float(loss.mean().detach()) == pytest.approx((reconstruction + 0.7 * kl) / 10, rel=1e-5)


@pytest.mark.parametrize("per", ["dimension", "total"])
def test_free_bits_change_what_is_minimised_and_never_what_is_reported(per, tokenizer, batch):
    plain = connected(tokenizer, latent_dim=3, spread=0.5, **PLAIN)
    kl = plain.loss(batch).metrics["kl"][0].detach() / 10
    free = float(kl) * (2 if per == "total" else 1 / 3)
    method = connected(tokenizer, latent_dim=3, spread=0.5, free_bits=free, free_bits_per=per)
    loss = method.loss(batch)
    assert torch.equal(loss.metrics["kl"][0].detach() / 10, kl)
    mean, log_variance = method.posterior(batch)
    each = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean(dim=0)
    expected = 2 * kl if per == "total" else each.clamp(min=free).sum()
    assert float(loss.terms["kl"].total.detach() / 10) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(expected.detach()) > float(kl)


def test_validation_has_weight_one_whatever_training_has(tokenizer, batch):
    plain = connected(tokenizer, latent_dim=3, **PLAIN).eval()
    method = connected(tokenizer, latent_dim=3, beta=0.1, free_bits=50.0, word_dropout=0.9).eval()
    losses = []
    for each in (plain, method):
        torch.manual_seed(2)
        losses.append(float(each.loss(batch).mean().detach()))
    assert losses[0] == losses[1]
    torch.manual_seed(2)
    assert float(method.train().loss(batch).mean().detach()) != losses[0]


def test_mutual_information_is_that_of_the_z_that_was_drawn(tokenizer, batch):
    method = connected(tokenizer, latent_dim=3).eval()
    torch.manual_seed(2)
    total, number = method.loss(batch).metrics["mutual_information"]
    mean, log_variance = method.posterior(batch)
    torch.manual_seed(2)
    deviation = (log_variance / 2).exp()
    z = mean + deviation * torch.randn_like(mean)
    log_q = Normal(mean, deviation).log_prob(z[:, None]).sum(dim=2)  # (10, 10): each z under each posterior
    expected = log_q.diagonal() - log_q.exp().mean(dim=1).log()
    assert float(total) == pytest.approx(float(expected.sum().detach()), rel=1e-4)
    assert int(number) == 10


def test_word_dropout_hides_words_from_the_decoder_alone(tokenizer, batch):
    method = connected(tokenizer, word_dropout=1.0, **PLAIN)
    seen = {}
    method.encoder.register_forward_pre_hook(lambda _, arguments: seen.update(encoder=arguments[0]))
    method.decoder.transformer.register_forward_pre_hook(lambda _, arguments: seen.update(decoder=arguments[0]))
    loss = method.loss(batch)
    assert torch.equal(seen["encoder"].input_ids, batch.input_ids)
    content = batch.is_text & method.maskable[batch.input_ids]
    assert (seen["decoder"].input_ids[content] == tokenizer.mask_id).all()
    assert torch.equal(seen["decoder"].input_ids[~content], batch.input_ids[~content])
    loss.mean().backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


class Recorded(VAE):
    """Notes the weight of the KL in every batch of the training."""

    def loss(self, batch):
        loss = super().loss(batch)
        if self.training:
            weights.append(loss.terms["kl"].weight)
        return loss


weights: list[float] = []


def test_cycles_of_annealing_are_as_many_as_asked_for(tmp_path):
    weights.clear()
    settings = {"annealing": "cyclical", "annealing_steps": 8, "annealing_cycles": 2, "decoder_layers": 1}
    trainer(tmp_path, max_steps=9, limit_val_batches=0).fit(Recorded(encoder(16), **settings, **PLAIN), data())
    assert weights == [0, 0.5, 1, 1, 0, 0.5, 1, 1, 1]


def test_annealing_over_a_share_of_all_steps(tmp_path):
    weights.clear()
    method = Recorded(encoder(16), annealing="linear", annealing_steps=0.5, decoder_layers=1)
    trainer(tmp_path, accumulate_grad_batches=2, max_steps=6, limit_val_batches=0).fit(method, data())
    assert weights == [min(step / 3, 1) for step in range(6) for _ in range(2)]
    settings = Optimization(schedule="constant", warmup=0)
    endless = VAE(encoder(16), annealing="linear", annealing_steps=0.5, decoder_layers=1, optimization=settings)
    with pytest.raises(UserError, match=r"annealing_steps 0.5 as a share of all steps needs .* set trainer.max_steps"):
        trainer(tmp_path, max_steps=-1, max_epochs=-1).fit(endless, data())


def test_annealing_counts_optimizer_steps_and_survives_a_resume(tmp_path):
    def method():
        return Recorded(encoder(16), beta=2.0, annealing="linear", annealing_steps=5, decoder_layers=1)

    weights.clear()
    first = trainer(tmp_path, accumulate_grad_batches=2, max_steps=3, limit_val_batches=0)
    first.fit(method(), data())
    first.save_checkpoint(tmp_path / "a.ckpt")
    resumed = trainer(tmp_path, accumulate_grad_batches=2, max_steps=7, limit_val_batches=0)
    resumed.fit(method(), data(), ckpt_path=tmp_path / "a.ckpt", weights_only=False)
    expected = [2 * min(step / 5, 1) for step in range(7) for _ in range(2)]
    assert weights == pytest.approx(expected)


def test_the_importance_weighted_bound_nears_the_likelihood_from_above(tokenizer):
    """With one latent dimension the likelihood is an integral that a sum over a fine grid gives."""
    batch = rows_of(tokenizer, TEXTS[:6])
    method = connected(tokenizer, latent_dim=1, spread=0.3, **PLAIN).eval()
    grid = torch.linspace(-6, 6, 121)
    log_p = torch.stack([-method.decoder.sentence_losses(z.expand(6, 1), batch, batch.next_ids) for z in grid])
    prior = Normal(0.0, 1.0).log_prob(grid)[:, None] + math.log(0.1)
    exact = -(log_p + prior).logsumexp(dim=0)
    with torch.no_grad():
        mean, _ = method.posterior(batch)
        mean, log_variance = (
            0.5 * mean,
            torch.full_like(mean, 0.3),
        )  # wider than the prior, so that no draw outweighs all
    bounds = {}
    for samples in (1, 2, 2000):
        torch.manual_seed(0)
        elbo_nll, bounds[samples] = method.nll_bounds(batch, mean, log_variance, samples)
        assert (bounds[samples] <= elbo_nll + 1e-4).all()
    expected, deviation = expected_elbo(log_p, grid, mean, log_variance)
    assert ((elbo_nll - expected).abs() < 6 * deviation / math.sqrt(2000)).all()
    assert (deviation / math.sqrt(2000) < 0.1).all()  # which means something: what is estimated is 20 to 50 nats
    assert torch.allclose(bounds[2000], exact, atol=0.1)
    few = torch.stack([method.nll_bounds(batch, mean, log_variance, 2)[1] for _ in range(200)])
    assert elbo_nll.mean() > few.mean() > exact.mean()


def expected_elbo(log_p, grid, mean, log_variance):
    """(B,): the negative ELBO, integrated over the grid; (B,): the standard deviation of what one draw says of it."""
    q = Normal(mean.T, (log_variance / 2).exp().T)
    weights = (q.log_prob(grid[:, None]) + math.log(0.1)).exp()
    expected = -(weights * log_p).sum(dim=0) + kl_divergence(q, Normal(0.0, 1.0))[0]
    draws = -(log_p + Normal(0.0, 1.0).log_prob(grid)[:, None] - q.log_prob(grid[:, None]))
    return expected, (weights * (draws - expected) ** 2).sum(dim=0).sqrt()


def test_diagnostics_are_those_of_the_whole_split(tmp_path):
    """Compares with what all sentences of the split give at once: 21 of them, in batches of 4."""
    module = data()
    method = VAE(encoder(16), latent_dim=6, importance_samples=3, optimization=Optimization(learning_rate=1e-2))
    runner = trainer(tmp_path, max_steps=30, limit_val_batches=0)
    runner.fit(method, module)
    with torch.no_grad():
        method.to_posterior.weight[:2] = 0  # two of the six means know nothing of the sentence
        method.to_posterior.weight[2:6] *= 10  # and the others so much that it is told from the noise of the estimate
    runner = trainer(tmp_path)
    [metrics] = runner.validate(method, module, verbose=False)
    texts = [document.text for document in CORPUS.documents("valid")]
    ids = [ids for batch in module.val_dataloader() for ids in batch.input_ids]
    means = torch.cat([method.embed_batch(batch) for batch in module.val_dataloader()]).detach()
    assert len(ids) == len(means) >= len(texts)
    assert metrics["val/active_units"] == int((means.var(dim=0, correction=0) > 0.01).sum()) <= 4
    assert metrics["val/elbo"] == -metrics["val/loss"]
    assert metrics["val/loss"] == pytest.approx(metrics["val/loss/reconstruction"] + metrics["val/loss/kl"])
    assert metrics["val/kl"] == metrics["val/loss/kl"]
    assert metrics["val/iw_nll"] <= metrics["val/loss"]
    tokens = sum(int((batch.next_ids != -100).sum()) for batch in module.val_dataloader())
    perplexity = math.exp(metrics["val/iw_nll"] * len(means) / tokens)
    assert metrics["val/perplexity"] == pytest.approx(perplexity, rel=1e-4)
    size = module.statistics("valid").bytes
    expected = metrics["val/iw_nll"] * len(means) / math.log(2) / size
    assert metrics["val/bits_per_byte"] == pytest.approx(expected, rel=1e-4)
    assert 0 <= metrics["val/mutual_information"] <= math.log(4)
    assert {"val/token_accuracy", "val/exact_match"} <= metrics.keys()
    assert not any(name.startswith("val/_") for name in metrics)
    torch.manual_seed(3)
    assert trainer(tmp_path).validate(method, module, verbose=False) == [metrics]


def test_a_few_steps_of_muon_do_not_make_the_vector_larger_than_the_tokens_it_joins(tokenizer, batch):
    """In a VAE it is noise at first, which would hide them."""
    torch.manual_seed(0)
    method = VAE(encoder(64), optimization=Optimization(optimizer="muon", learning_rate=2e-3))
    method.connect(tokenizer)
    optimizer = build_optimizer(method, method.optimization)
    for _ in range(10):
        optimizer.zero_grad()
        method.loss(batch).mean().backward()
        optimizer.step()
    vectors = method.decoder.added(torch.randn(1000, method.latent_dim)).norm(dim=-1)
    tokens = method.decoder.transformer.embedding(batch.input_ids[batch.is_text]).norm(dim=-1)
    assert 0.5 < float((vectors.mean() / tokens.mean()).detach()) < 1.5


def test_bad_settings_are_refused_together(tokenizer, tmp_path):
    with pytest.raises(
        UserError, match="VAE: beta must be 0 or more, not -1; word_dropout must be between 0 and 1, not 2"
    ):
        VAE(beta=-1, word_dropout=2)
    with pytest.raises(UserError, match="beta must be 0 or more, not nan.*; free_bits must be 0 or more, not nan"):
        VAE(beta=math.nan, free_bits=math.nan)
    with pytest.raises(UserError, match="annealing 'slow' is unknown.*; free_bits_per 'token' is unknown"):
        VAE(annealing="slow", free_bits_per="token", annealing_steps=1)
    with pytest.raises(UserError, match="annealing_steps 10 contradicts annealing none"):
        VAE(annealing="none", annealing_steps=10)
    for steps in (0, 1.5, 0.0):
        with pytest.raises(UserError, match=f"annealing_steps {steps} is neither a number of steps"):
            VAE(annealing="linear", annealing_steps=steps)
    with pytest.raises(UserError, match="annealing linear needs annealing_steps"):
        VAE(annealing="linear")
    with pytest.raises(UserError, match="free_bits 0.1 contradicts annealing cyclical"):
        VAE(annealing="cyclical", annealing_steps=10, free_bits=0.1)
    with pytest.raises(UserError, match="latent_dim must be 1 or more, not 0"):
        VAE(latent_dim=0)
    with pytest.raises(UserError, match="VAE reads sentence rows, not block ones: set data.unit to sentence"):
        trainer(tmp_path).fit(VAE(encoder(16)), data(unit="block"))
    maskless = Tokenizer(tokenizer.serialize().replace(f'"mask": {tokenizer.mask_id}', '"mask": null'))
    with pytest.raises(UserError, match="mask token, which this tokenizer lacks: set word_dropout"):
        connected(maskless, word_dropout=0.1)
    method = connected(tokenizer)
    with pytest.raises(UserError, match="temperature must be 0 or more, not -1"):
        method.draw(1, temperature=-1)
    with pytest.raises(UserError, match="number must be 0 or more, not -1"):
        method.draw(-1)
    with pytest.raises(UserError, match="steps must be 2 or more, not 1"):
        method.interpolate("a", "the", steps=1)
