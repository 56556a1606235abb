import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import (
    ARAE,
    VAE,
    Autoencoder,
    CausalLM,
    MaskedLM,
    Method,
    MoCo,
    MultiObjective,
    NGramLM,
    Optimization,
    SimCLR,
)
from ssl_nlp.objectives.views import Repeat
from tests.corpus import ListCorpus, random_texts
from tests.methods.validation import validate_texts

CORPUS = ListCorpus(random_texts(60), random_texts(20, seed=1))


def encoder(**arguments):
    return Transformer(size=None, dim=16, layers=2, heads=2, max_length=64, **arguments)


def data():
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit="sentence", length=64, batch_size=4, seed=0)


def both(**arguments):
    return MultiObjective(encoder(), [MaskedLM(masking_rate=0.2), CausalLM()], **arguments)


@pytest.fixture(scope="module")
def tokenizer():
    return data().tokenizer


@pytest.fixture
def batch(tokenizer) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(random_texts(6))], None, tokenizer, 64)


def test_the_objective_is_the_weighted_sum_of_what_each_method_says_alone(tokenizer, batch):
    together = both(weights=[2.0, 0.5])
    together.connect(tokenizer)
    expected = 0.0
    for part, weight, kind in zip(together.objectives.values(), [2.0, 0.5], (MaskedLM, CausalLM), strict=True):
        alone = kind(encoder())
        alone.connect(tokenizer)
        alone.encoder.load_state_dict(together.encoder.state_dict())
        alone.head.load_state_dict(part.head.state_dict())
        alone.eval()
        torch.manual_seed(1)
        expected = expected + weight * alone.loss(batch).mean()
    torch.manual_seed(1)
    torch.testing.assert_close(together.eval().loss(batch).mean(), expected)


def test_an_evaluation_asks_an_objective_the_same_in_any_company(tokenizer):
    texts = random_texts(12, seed=2)
    together = MultiObjective(encoder(), [SimCLR(), MaskedLM(), MaskedLM()])
    together.connect(tokenizer)
    together.objectives["masked_lm_2"].load_state_dict(together.objectives["masked_lm"].state_dict())
    alone = MaskedLM(encoder())
    alone.connect(tokenizer)
    alone.encoder.load_state_dict(together.encoder.state_dict())
    alone.head.load_state_dict(together.objectives["masked_lm"].head.state_dict())
    found, expected = (validate_texts(method, texts, batch_size=5) for method in (together, alone))
    for name in ("masked_lm", "masked_lm_2"):
        assert found[f"loss/{name}/masked_token"] == pytest.approx(expected["loss/masked_token"], rel=1e-5)


def test_objectives_draw_one_after_the_other_in_training(tokenizer, batch):
    together = MultiObjective(encoder(), [MaskedLM(), MaskedLM()]).train()
    together.connect(tokenizer)
    together.objectives["masked_lm_2"].load_state_dict(together.objectives["masked_lm"].state_dict())
    first, second = together.loss(batch).terms.values()
    assert first.total != second.total


def test_a_causal_objective_does_not_see_the_future_through_the_shared_encoder(tokenizer, batch):
    together = both()
    together.connect(tokenizer)
    assert not together.encoder.causal
    alone = CausalLM(encoder())
    alone.connect(tokenizer)
    alone.encoder.load_state_dict(together.encoder.state_dict())
    alone.head.load_state_dict(together.objectives["causal_lm"].head.state_dict())
    terms = together.eval().loss(batch).terms
    torch.testing.assert_close(terms["causal_lm/next_token"].total, alone.eval().loss(batch).terms["next_token"].total)
    assert isinstance(together.objectives["causal_lm"].generate(["the"], max_new_tokens=4, seed=0)[0], str)


def test_it_trains_logs_each_objective_and_loads_again(tmp_path):
    method = both(gradient_cosine_every=2, optimization=Optimization(learning_rate=5e-3))
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=20, val_check_interval=10, log_every_n_steps=2, num_sanity_val_steps=0,
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = data()
    [before] = trainer.validate(method, module, verbose=False)
    trainer.fit(method, module)
    logged = trainer.callback_metrics
    for name in ("masked_lm/masked_token", "causal_lm/next_token"):
        assert float(logged[f"val/loss/{name}"]) < before[f"val/loss/{name}"]
        assert f"train/loss/{name}" in logged
    for name in ("masked_lm", "causal_lm"):
        assert f"val/{name}/perplexity" in logged
        assert f"val/{name}/bits_per_byte" in logged
    assert -1 <= float(logged["train/gradient_cosine/masked_lm/causal_lm"]) <= 1
    assert {row["objective"] for row in method.samples(["the dog sees a cat"])} == {"masked_lm", "causal_lm"}
    path = tmp_path / "together.ckpt"
    trainer.save_checkpoint(path)
    loaded = Method.load_from_checkpoint(path)
    assert isinstance(loaded, MultiObjective)
    assert loaded.objectives["masked_lm"].masking_rate == 0.2
    torch.testing.assert_close(loaded.embed(["the dog"]), method.embed(["the dog"]))
    # The encoder is in the checkpoint once.
    assert not [name for name in loaded.state_dict() if "." in name and name.split(".")[1] == "encoder"]


class Narrow(SimCLR):
    """A method with an argument of its own, and few of those of the class that it builds on."""

    def __init__(self, encoder=None, heat=0.5):
        super().__init__(encoder, temperature=heat)
        self.heat = heat


def saved_and_loaded(method, folder):
    trainer = Trainer(
        default_root_dir=folder, max_steps=2, accelerator="cpu", logger=False, limit_val_batches=1, val_check_interval=2,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(method, data())
    trainer.save_checkpoint(folder / "a.ckpt")
    loaded = Method.load_from_checkpoint(folder / "a.ckpt")
    torch.testing.assert_close(loaded.embed(["the dog"]), method.embed(["the dog"]))
    return loaded, trainer.callback_metrics


def test_an_objective_is_saved_with_the_arguments_that_its_own_class_takes(tmp_path):
    loaded, _ = saved_and_loaded(MultiObjective(encoder(), [Narrow(heat=0.3), MaskedLM(masking_rate=0.2)]), tmp_path)
    assert loaded.objectives["narrow"].heat == loaded.objectives["narrow"].fixed_temperature == 0.3
    assert loaded.objectives["masked_lm"].masking_rate == 0.2


def test_several_objectives_are_one_objective_among_others(tokenizer, batch, tmp_path):
    """Weights multiply, and everything is logged under both names."""
    inner = MultiObjective(objectives=[MaskedLM(masking_rate=0.2), CausalLM()], weights=[3.0, 1.0])
    loaded, logged = saved_and_loaded(MultiObjective(encoder(), [inner, SimCLR()], weights=[0.5, 1.0]), tmp_path)
    part = loaded.objectives["multi_objective"]
    assert part.objectives["masked_lm"].masking_rate == 0.2
    terms = loaded.loss(batch).terms
    weights = {name: term.weight for name, term in terms.items()}
    inside = {"multi_objective/masked_lm/masked_token": 1.5, "multi_objective/causal_lm/next_token": 0.5}
    assert weights == inside | {"simclr/info_nce": 1.0}
    for name in ("loss/multi_objective/masked_lm/masked_token", "multi_objective/causal_lm/perplexity"):
        assert f"val/{name}" in logged
    # The encoder is in the checkpoint once.
    assert not [name for name in loaded.state_dict() if "encoder" in name.split(".")[1:]]


def test_the_cosine_is_that_of_the_gradients_of_the_shared_encoder(tokenizer, batch):
    together = both(gradient_cosine_every=1)
    together.connect(tokenizer)
    torch.manual_seed(0)
    loss = together.train().loss(batch)
    [(cosine, count)] = [pair for name, pair in loss.metrics.items() if name.startswith("gradient_cosine")]
    gradients = []
    for term in loss.terms.values():
        together.zero_grad()
        (term.total / term.targets).backward(retain_graph=True)
        gradients.append(torch.cat([p.grad.flatten() for p in together.encoder.parameters()]))
    assert float(cosine) == pytest.approx(float(torch.cosine_similarity(*gradients, dim=0)), abs=1e-5)
    assert int(count) == 1


def test_a_frozen_encoder_has_no_cosine(tokenizer, batch):
    together = both(gradient_cosine_every=1)
    together.connect(tokenizer)
    together.encoder.requires_grad_(False)
    loss = together.train().loss(batch)
    assert not loss.metrics
    loss.mean().backward()
    together.encoder.requires_grad_(True)
    assert list(together.loss(batch).metrics) == ["gradient_cosine/masked_lm/causal_lm"]


def test_the_cosine_is_measured_as_often_as_was_asked_and_in_training_alone(tokenizer, batch):
    together = both(gradient_cosine_every=3)
    together.connect(tokenizer)

    def measured(step: int) -> bool:
        together._trainer = SimpleNamespace(global_step=step)
        return bool(together.loss(batch).metrics)

    together.train()
    assert [step for step in range(8) if measured(step)] == [0, 3, 6]
    with torch.no_grad():
        assert not measured(0)
    together.eval()
    assert not measured(0)


def test_two_of_a_class_have_two_names():
    method = MultiObjective(encoder(), [MaskedLM(), MaskedLM(masking_unit="span"), CausalLM()])
    assert list(method.objectives) == ["masked_lm", "masked_lm_2", "causal_lm"]


class Bert2(MaskedLM):
    pass


class Bert(MaskedLM):
    pass


def test_names_that_end_in_a_number_stay_apart():
    method = MultiObjective(encoder(), [Bert2(), Bert2(), Bert(), Bert(), Bert(), MaskedLM()])
    assert list(method.objectives) == ["bert2", "bert2_2", "bert", "bert_2", "bert_3", "masked_lm"]
    assert len(set(method.objectives.values())) == 6


@pytest.mark.parametrize("name", ["weights", "maskable", "token_counts", "tokenizer", "loss", "encoder", "a.b", ""])
def test_names_that_something_else_has_are_refused(name):
    kind = type("Kind", (MaskedLM,), {"short_name": name})
    with pytest.raises(UserError, match=f"'{name}' cannot be the name of an objective: give its class"):
        MultiObjective(objectives=[kind()])


def test_bad_settings_are_refused_together():
    with pytest.raises(
        UserError, match="2 objectives have 1 weights; weights must all be positive and finite, not \\[-1.0\\]"
    ):
        both(weights=[-1.0])
    for weight in (0.0, math.nan, math.inf):
        with pytest.raises(UserError, match="weights must all be positive and finite"):
            both(weights=[1.0, weight])
    with pytest.raises(UserError, match="gradient_cosine_every must be 1 or more, not 0"):
        both(gradient_cosine_every=0)
    with pytest.raises(UserError, match="at least one"):
        MultiObjective(encoder())
    with pytest.raises(UserError, match="ARAE has several players and must be trained alone"):
        MultiObjective(objectives=[CausalLM(), ARAE()])
    with pytest.raises(UserError, match="an encoder of its own"):
        MultiObjective(encoder(), [MaskedLM(encoder())])
    with pytest.raises(UserError, match="MultiObjective: NGramLM has no encoder to share and must be trained alone$"):
        MultiObjective(objectives=[CausalLM(), NGramLM()])


REFUSED = {
    "queue": (lambda: MoCo(queue=10), "sentence", "queue 10 is not a multiple of the 4 rows of a batch over all ranks"),
    "views": (lambda: SimCLR(views=[Repeat(0.5)]), "sentence", "the views make 96 tokens of data.length 64"),
    "noise": (lambda: Autoencoder(noise=[Repeat(0.5)]), "sentence", "the views make 96 tokens of data.length 64"),
    "no difference": (lambda: MoCo(views=[], queue=8), "sentence", "MoCo would see the same text twice"),
    "unit": (VAE, "block", "reads sentence rows, not block ones: set data.unit to sentence"),
    "pairs": (lambda: MaskedLM(sentence_pairs="next"), "sentence", "reads pair rows, not sentence ones"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("together", [False, True])
def test_data_that_an_objective_alone_refuses_are_refused_for_several(name, together, tmp_path):
    make, unit, message = REFUSED[name]
    method = make()
    if together:
        method = MultiObjective(encoder(), [CausalLM(), method])
    else:
        method.encoder = encoder()
    module = TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), unit=unit, length=64, batch_size=4, seed=0)
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(UserError, match=message):
        trainer.fit(method, module)
