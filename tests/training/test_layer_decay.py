"""Rates that fall from layer to layer, for each kind of optimizer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM, Method, MultiObjective, ReplacedToken, SimCLR
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.optimizers import build_optimizers, logged_rates
from tests.corpus import ListCorpus, random_texts

SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"learning_rate": 0.01},
    "muon": {"learning_rate": 0.01, "muon_learning_rate": None},
    "torch.optim.SGD": {"learning_rate": 0.01},
}


def data(length: int = 24) -> TextDataModule:
    return TextDataModule(ListCorpus(random_texts(40)), TokenizerSettings(vocab_size=300), "sentence", length, 4)


def built(method: Method, **encoder: Any) -> Method:
    method.encoder = Transformer(None, dim=16, layers=2, heads=2, max_length=64, **encoder)
    method.connect(data().tokenizer)
    return method


def rates(method: Method) -> dict[str, float]:
    """The rate of each parameter."""
    optimizer = build_optimizers(method.players(), method.encoder)
    names = {parameter: name for name, parameter in method.named_parameters()}
    found = [(names[p], group["lr"]) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(dict(found)) == sum(p.requires_grad for p in method.parameters())
    return dict(found)


@pytest.mark.parametrize("optimizer", SETTINGS)
@pytest.mark.parametrize(
    "kind", [MaskedLM, ReplacedToken, lambda **given: MultiObjective(objectives=[MaskedLM()], **given)]
)
def test_each_layer_has_its_share_of_the_rate_and_everything_else_the_full_one(kind, optimizer):
    method = built(kind(optimization=Optimization(optimizer, layer_decay=0.5, **SETTINGS[optimizer])))
    for name, rate in rates(method).items():
        places = {"encoder.embeddings.": 0.125, "encoder.layers.0.": 0.25, "encoder.layers.1.": 0.5}
        share = next((share for place, share in places.items() if name.startswith(place)), 1.0)
        assert rate == pytest.approx(0.01 * share), name


def test_without_decay_the_groups_are_the_plain_ones_and_checkpoints_of_before_fit():
    names = [group["name"] for group in build_optimizers(built(MaskedLM()).players(), None).param_groups]
    assert names == ["decay", "no_decay"]


def test_the_highest_rate_of_each_kind_of_group_is_logged():
    method = built(
        SimCLR(optimization=Optimization("muon", 0.01, 0.04, layer_decay=0.5))
    )  # whose norm alone is no layer
    optimizer = build_optimizers(method.players(), method.encoder)
    assert "muon.layer_1" in {group["name"] for group in optimizer.param_groups}
    assert logged_rates(optimizer) == {"muon": 0.02, "no_decay": 0.01}


@pytest.mark.parametrize("optimizer", SETTINGS)
@pytest.mark.parametrize("freeze", ["embeddings", 1, None])
def test_a_partly_frozen_encoder_trains_layer_by_layer(freeze, optimizer, tmp_path: Path):
    settings = SETTINGS[optimizer] | {"layer_decay": 0.5, "warmup": 0, "schedule": "constant"}
    settings |= {"learning_rate": 10.0} if "." in optimizer else {}  # or rounding would hide the steps of norms
    method = built(MaskedLM(optimization=Optimization(optimizer, **settings)), freeze=freeze, dropout=0.1)
    before = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_steps=2, logger=False, limit_val_batches=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(method, data())
    kept = {name for name, parameter in method.named_parameters() if torch.equal(parameter, before[name])}
    frozen = {None: (), "embeddings": ("encoder.embeddings",), 1: ("encoder.embeddings", "encoder.layers.0")}[freeze]
    assert kept == {name for name in before if name.startswith(frozen)} if frozen else not kept


def test_where_everything_is_frozen_there_is_nothing_to_train():
    method = built(SimCLR(), freeze="all")
    with pytest.raises(UserError, match="nothing to train: all parameters are frozen: set encoder.freeze"):
        build_optimizers(method.players(), method.encoder)


def test_a_decay_that_makes_no_sense_is_refused():
    for decay in (0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(UserError, match="layer_decay must be above 0 and at most 1"):
            Optimization(layer_decay=decay)


def test_a_head_over_a_frozen_encoder_trains_and_its_tied_embedding_does_not():
    method = built(MaskedLM(), freeze="all")
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith("head.") for name in trained)
    batch = next(iter(data().val_dataloader())).without_labels()
    method.loss(batch).mean().backward()
    head = [p for name, p in method.named_parameters() if name in trained]
    assert all(isinstance(p, nn.Parameter) and p.grad is not None for p in head)
    assert method.encoder.embedding.weight.grad is None
