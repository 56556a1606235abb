import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import ARAE, Method, Optimization
from ssl_nlp.methods.adversarial.arae import layers
from ssl_nlp.objectives.adversarial import gradient_penalties
from ssl_nlp.objectives.geometry import embedding_spread
from ssl_nlp.seeding import seed_generators
from ssl_nlp.training.module import VALIDATION_SEED
from ssl_nlp.training.optimizers import build_optimizers
from ssl_nlp.training.players import backward, losses
from tests.methods.sentences import CORPUS, TEXTS, data, encoder, rows_of, trainer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    return rows_of(tokenizer, TEXTS[:10])


def connected(tokenizer, dim=32, **arguments) -> ARAE:
    torch.manual_seed(0)
    method = ARAE(encoder(dim), **arguments)
    method.connect(tokenizer)
    return method


def test_the_losses_equal_a_walk_over_every_sentence(tokenizer, batch):
    """The oracle encodes and scores one sentence at a time, and asks for its tokens one by one."""
    method = connected(tokenizer, latent_dim=6, noise=0.8, distance_weight=0.3)
    torch.manual_seed(5)
    loss = method.loss(batch)
    torch.manual_seed(5)
    z, noise, shares = torch.randn(10, 32), torch.randn(10, 6), torch.rand(10, 1)
    reconstruction, tokens, of_real, of_made, penalty = 0.0, 0, 0.0, 0.0, 0.0
    for i, text in enumerate(TEXTS[:10]):
        [code], made = method.embed([text]), method.generator(z[i]).detach()
        made = made / made.norm()
        assert float(code.norm()) == pytest.approx(1, abs=1e-6)
        vector = code + 0.8 / math.sqrt(6) * noise[i]
        [(ids, _)] = tokenizer.encode([text])
        for t, following in enumerate([*ids[1:], tokenizer.end_id]):
            before = torch.tensor([ids[: t + 1]])
            row = TokenBatch(before, torch.ones_like(before), packed=False, padded=False)
            log_p = method.decoder.head(method.decoder(vector[None], row)[0, -1]).log_softmax(-1)
            reconstruction -= float(log_p[following].detach())
            tokens += 1
        of_real += float(method.critic(code).detach())
        of_made += float(method.critic(made).detach())
        point = (shares[i] * code + (1 - shares[i]) * made).requires_grad_()
        method.critic(point).backward()
        penalty += (float(point.grad.norm()) - 1) ** 2
    expected = {
        "reconstruction": (reconstruction, tokens, 1.0),
        "critic_distance": (of_real - of_made, 10, 0.3),
        "critic": (of_made - of_real, 10, 1.0),
        "gradient_penalty": (penalty, 10, 10.0),
        "generator": (-of_made, 10, 1.0),
    }
    assert loss.terms.keys() == expected.keys()
    for name, (total, targets, weight) in expected.items():
        term = loss.terms[name]
        assert (int(term.targets), term.weight) == (targets, weight)
        assert float(term.total.detach()) == pytest.approx(total, rel=1e-4, abs=1e-5)


def test_each_player_gets_the_gradient_of_its_own_loss_and_no_other(tokenizer, batch):
    """W pulls encoder and generator to each other, and the critic away from both."""
    method = connected(tokenizer, noise=0.0, distance_weight=1.0)
    players, names = method.players(), ("autoencoder", "critic", "generator")
    torch.manual_seed(5)
    loss = method.loss(batch)
    backward(losses(loss, {n: t.targets for n, t in loss.terms.items()}, players, names), players, names, False)
    assert sum(len(player.parameters()) for player in players.values()) == len([*method.parameters()])
    found = {name: parameter.grad.clone() for name, parameter in method.named_parameters()}
    torch.manual_seed(5)
    made = method.from_prior(len(batch))
    codes = method.embed_batch(batch)
    torch.randn_like(codes)  # the noise, so that the penalty's points are the same
    penalty = gradient_penalties(method.scores, codes, made).mean()
    apart = (method.scores(codes) - method.scores(made)).mean()
    tokens, number = method.decoder.loss(codes, batch, method.targets(batch))
    for name, objective in {
        "autoencoder": tokens / number + apart,
        "critic": -apart + 10 * penalty,
        "generator": apart,
    }.items():
        own = {id(parameter) for parameter in players[name].parameters()}
        parameters = {n: parameter for n, parameter in method.named_parameters() if id(parameter) in own}
        expected = torch.autograd.grad(objective, [*parameters.values()], retain_graph=True)
        for key, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(found[key], gradient, atol=1e-6, rtol=1e-4, msg=key)


@pytest.mark.parametrize(("weight", "expected"), [(10, 2.2), (100, 2.02)])
def test_the_critic_learns_the_distance_between_two_separated_clouds(weight, expected):
    """They are 2 apart. A slope of s gives 2 s - weight * (s - 1)^2, which is most at s = 1 + 1 / weight: W is 2 s then."""
    torch.manual_seed(0)
    critic = layers(2, 64, 1, torch.nn.LeakyReLU(0.2))
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9))
    real, made = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    found = []
    for _ in range(300):
        x, y = (pole + 0.02 * torch.randn(32, 2) for pole in (real, made))
        distance = critic(x).mean() - critic(y).mean()
        penalty = gradient_penalties(lambda points: critic(points).squeeze(1), x, y).mean()
        optimizer.zero_grad()
        (weight * penalty - distance).backward()
        optimizer.step()
        found.append(float(distance.detach()))
    assert sum(found[-100:]) / 100 == pytest.approx(expected, abs=0.03)


@pytest.mark.slow
def test_it_overfits_writes_sentences_back_and_draws_some(tokenizer):
    """All three players act in turn, as in a training."""
    method = connected(
        tokenizer,
        64,
        latent_dim=8,
        noise=0.1,
        optimization=Optimization(learning_rate=4e-3, weight_decay=0.0),
    )
    rows, players, names = rows_of(tokenizer, TEXTS), method.players(), ("autoencoder", "critic", "generator")
    optimizer = build_optimizers(players, method.encoder)
    for step in range(300):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = method.loss(rows)
        backward(losses(loss, {n: t.targets for n, t in loss.terms.items()}, players, names), players, names, False)
        torch.nn.utils.clip_grad_norm_(players["autoencoder"].parameters(), 1.0)
        optimizer.step()
    metrics = method.eval().validation_loss(rows).metrics
    assert float(metrics["exact_match"][0] / metrics["exact_match"][1]) == 1
    reconstructions = method.reconstruct(TEXTS)
    assert sum(a == b for a, b in zip(reconstructions, TEXTS, strict=True)) >= 60
    path = method.interpolate(TEXTS[0], TEXTS[1], steps=5)
    assert (len(path), path[0], path[-1]) == (5, reconstructions[0], reconstructions[1])
    samples = method.samples(TEXTS[:3])
    assert [row["reconstruction"] for row in samples] == reconstructions[:3]
    assert [row["from_prior"] for row in samples] == method.draw(3, seed=0)
    assert len(set(method.draw(20, seed=0, temperature=0))) > 1


class Turns(Callback):
    """Counts how often each part has changed."""

    def __init__(self) -> None:
        self.changed: Counter[str] = Counter()
        self.before: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: Method, *args: object) -> None:
        for name, player in pl_module.players().items():
            now = torch.cat([parameter.detach().flatten() for parameter in player.parameters()]).clone()
            if name in self.before:
                self.changed[name] += not torch.equal(now, self.before[name])
            self.before[name] = now


def test_each_part_is_trained_as_often_as_its_share_says(tmp_path):
    turns = Turns()
    method = ARAE(encoder(16), autoencoder_every=2, generator_every=3, decoder_layers=1)
    trainer(tmp_path, max_steps=13, limit_val_batches=0, callbacks=[turns]).fit(method, data())
    # The first step, in which the critic alone acts, has no weights before it to compare with.
    assert turns.changed == {"critic": 12, "autoencoder": 6, "generator": 4}


def test_the_noise_falls_from_its_first_length_to_its_last(tmp_path):
    class Recorded(ARAE):
        def loss(self, batch):
            deviations.append(self.deviation)
            return super().loss(batch)

    deviations: list[float] = []
    method = Recorded(encoder(16), latent_dim=4, noise=0.8, noise_left=0.25, decoder_layers=1)
    assert method.deviation == 0.4
    trainer(tmp_path, max_steps=3, limit_val_batches=0).fit(method, data())
    assert deviations == pytest.approx([0.4, 0.2, 0.1])


def test_a_validation_measures_the_codes_of_the_whole_split_without_noise(tmp_path, tokenizer):
    module, method = data(), connected(tokenizer, 16, latent_dim=6, noise=5.0)
    [metrics] = trainer(tmp_path).validate(method, module, verbose=False)
    names = {"loss", "token_accuracy", "exact_match", "critic_distance", "code_spread", "drawn_spread"}
    assert metrics.keys() == {f"val/{name}" for name in names}
    batches = [*module.val_dataloader()]
    codes = torch.cat([method.embed_batch(batch) for batch in batches]).detach()
    made = []
    for number, batch in enumerate(batches):
        seed_generators(method.device, VALIDATION_SEED, number, 0)
        made.append(method.from_prior(len(batch)))
    drawn = torch.cat(made).detach()
    # The split's deviations are those of all of its sentences, and those of a sample are larger by a known factor.
    for name, vectors in {"code": codes, "drawn": drawn}.items():
        spread = float(embedding_spread(vectors)) * math.sqrt(1 - 1 / len(vectors))
        assert metrics[f"val/{name}_spread"] == pytest.approx(spread, rel=1e-3)
    distance = float((method.critic(codes).mean() - method.critic(drawn).mean()).detach())
    assert abs(distance) > 1e-3 and metrics["val/critic_distance"] == pytest.approx(distance, rel=1e-3)
    parts = [method.decoder.loss(method.embed_batch(batch), batch, method.targets(batch)) for batch in batches]
    expected = sum(float(total.detach()) for total, _ in parts) / sum(int(number) for _, number in parts)
    assert metrics["val/loss"] == pytest.approx(expected, rel=1e-5)


def test_drawing_is_reproducible_and_leaves_the_mode_and_the_random_state_alone(tokenizer):
    method = connected(tokenizer).train()
    state = torch.get_rng_state()
    first = method.draw(5, seed=3)
    assert len(first) == 5 and method.draw(0) == []
    assert method.draw(5, seed=3) == first != method.draw(5, seed=4)
    assert method.training
    assert torch.equal(state, torch.get_rng_state())
    for share in (0.0, 0.3, 1.0):
        ends = method.embed(TEXTS[:2])
        point = method.between(ends[:1], ends[1:], torch.tensor([[share]]))
        assert float(point.norm()) == pytest.approx(1, abs=1e-6)  # where the decoder has learned to read


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_second_derivatives_are_finite_in_half_precision(precision, tmp_path):
    method = ARAE(encoder(16), decoder_layers=1, generator_every=1)
    run = trainer(tmp_path, precision=precision, limit_val_batches=1, gradient_clip_val=1.0)
    run.fit(method, data())
    assert method.finite()
    assert all(value.isfinite() for value in run.callback_metrics.values())


def test_a_checkpoint_needs_nothing_but_itself(tmp_path):
    method = ARAE(encoder(16), latent_dim=5, noise_dim=3, critic_learning_rate=2e-3)
    runner = trainer(tmp_path)
    runner.fit(method, data())
    runner.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.critic_optimization.learning_rate == 2e-3
    assert torch.equal(loaded.embed(TEXTS[:5]), method.embed(TEXTS[:5]))
    assert loaded.draw(2, seed=0) == method.draw(2, seed=0)


def test_bad_settings_are_refused_together(tmp_path: Path):
    with pytest.raises(
        UserError,
        match="ARAE: latent_dim must be 2 or more, not 1: a sphere of one dimension is two points, which no gradient "
        "moves; generator_every must be 1 or more, not 0; noise must be 0 or more, not -1",
    ):
        ARAE(latent_dim=1, generator_every=0, noise=-1)
    with pytest.raises(UserError, match="noise_left must be above 0 and at most 1, not 0"):
        ARAE(noise_left=0)
    with pytest.raises(UserError, match="ARAE reads sentence rows, not block ones: set data.unit to sentence"):
        trainer(tmp_path).fit(ARAE(encoder(16)), data(unit="block"))
