"""An encoder that starts from a checkpoint: what it takes along, what it refuses, and what it leaves alone when frozen."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertConfig, GPT2Config

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Trained, Transformer
from ssl_nlp.encoders.depth import parameter_depths
from ssl_nlp.encoders.trained import described_encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Autoencoder, CausalLM, MaskedLM, Method, SimCLR
from ssl_nlp.objectives.views import Delete
from ssl_nlp.runs.checkpoint import instantiate, read
from ssl_nlp.tasks import Classification
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import ROOT, save_untrained


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=300), ListCorpus(random_texts(40)))


def transformer(**arguments: Any) -> Transformer:
    return Transformer(None, **{"dim": 16, "layers": 2, "heads": 2, "max_length": 64, "dropout": 0.1, **arguments})


def trained(method: Method, tokenizer: Tokenizer, folder: Path, **arguments: Any) -> Encoder:
    return Trained(str(save_untrained(method, tokenizer, folder / "a.ckpt")), **arguments)


def test_it_is_an_encoder_of_the_class_and_size_of_the_checkpoint_which_is_what_a_new_checkpoint_describes(
    tokenizer, tmp_path
):
    source = MaskedLM(transformer(window=3))
    encoder = trained(source, tokenizer, tmp_path)
    assert type(encoder) is Transformer
    assert encoder.hparams() == source.encoder.hparams()
    described = MaskedLM(encoder).description()["init_args"]["encoder"]
    assert described == {"class_path": "ssl_nlp.encoders.Transformer", "init_args": encoder.hparams()}


def test_the_freezing_of_the_old_run_ends_with_it(tokenizer, tmp_path):
    encoder = trained(MaskedLM(transformer(freeze="all")), tokenizer, tmp_path)
    encoder.build(tokenizer.vocab_size, tokenizer.pad_id, False)
    assert encoder.hparams()["freeze"] is None
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_another_tokenizer_is_refused(tokenizer, tmp_path):
    method = CausalLM(trained(MaskedLM(transformer()), tokenizer, tmp_path))
    other = get_tokenizer(TokenizerSettings(vocab_size=300), ListCorpus(random_texts(60, seed=1)))
    with pytest.raises(UserError, match="trained with another tokenizer than the data's"):
        method.connect(other)


def test_published_models_keep_their_direction_of_sight_and_their_name_in_the_ancestry(tokenizer, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    AutoModel.from_config(BertConfig(vocab_size=tokenizer.vocab_size, **size)).save_pretrained(tmp_path / "bert")
    name = str(tmp_path / "bert")
    encoder = trained(MaskedLM(PretrainedEncoder(name)), tokenizer, tmp_path)
    assert [(one["checkpoint"], one["tokens"]) for one in encoder.ancestry] == [
        (name, None),
        (str(tmp_path / "a.ckpt"), None),
    ]
    with pytest.raises(UserError, match=f"this method needs a causal encoder, and {name} is bidirectional"):
        CausalLM(encoder).connect(tokenizer)


def test_the_states_of_a_published_model_that_a_run_has_trained_are_kept_to_the_bit(tokenizer, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    AutoModel.from_config(BertConfig(vocab_size=tokenizer.vocab_size, **size)).save_pretrained(tmp_path / "bert")
    source = Autoencoder(PretrainedEncoder(str(tmp_path / "bert")), noise=[Delete(0.6)])
    encoder = trained(source, tokenizer, tmp_path)
    shutil.rmtree(tmp_path / "bert")
    method = SimCLR(encoder)
    method.connect(tokenizer)
    batch = pad_rows([[1, 7, 8, 9], [1, 5]], None, tokenizer, 8)
    assert torch.equal(method.eval().encoder(batch), source.eval().encoder(batch))


def test_a_checkpoint_of_an_earlier_version_is_a_start_like_any_other():
    path = ROOT / "tests" / "runs_0_1" / "masked_lm" / "checkpoints" / "last.ckpt"
    source, encoder = Method.load_from_checkpoint(path), Trained(str(path))
    method = SimCLR(encoder)
    method.connect(source.tokenizer)
    assert torch.equal(method.encoder.embedding.weight, source.encoder.embedding.weight)
    [ancestor] = encoder.ancestry
    assert (ancestor["run"], ancestor["method"]) == ("masked_lm", "MaskedLM")
    assert ancestor["tokens"] > 0


def test_its_dropout_may_be_another(tokenizer, tmp_path):
    encoder = trained(MaskedLM(transformer(dropout=0.0)), tokenizer, tmp_path, dropout=0.3)
    encoder.build(tokenizer.vocab_size, tokenizer.pad_id, False)
    assert {module.p for module in encoder.modules() if isinstance(module, nn.Dropout)} == {0.3}
    assert encoder.hparams()["dropout"] == 0.3


def test_a_checkpoint_cannot_name_it_because_it_would_read_other_files():
    described = {"class_path": "ssl_nlp.encoders.Trained", "init_args": {"run": "a.ckpt"}}
    with pytest.raises(UserError, match="would read other files"):
        instantiate(described, Encoder)  # type: ignore[type-abstract]


def test_weights_that_do_not_fit_are_one_line(tokenizer, tmp_path):
    path = save_untrained(MaskedLM(transformer()), tokenizer, tmp_path / "a.ckpt")
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["encoder.final_norm.weight"] = torch.zeros(3)
    torch.save(saved, path)
    with pytest.raises(UserError, match="weights to start from do not fit the Transformer .*final_norm") as caught:
        MaskedLM(Trained(str(path))).connect(tokenizer)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------------------------- freezing


def trainable(encoder: nn.Module) -> set[str]:
    return {name.partition(".weight")[0] for name, p in encoder.named_parameters() if p.requires_grad}


def test_a_number_freezes_the_embeddings_and_that_many_layers(tokenizer):
    names = {}
    for freeze in (None, "embeddings", 0, 1, 2, "all"):
        encoder = transformer(freeze=freeze)
        encoder.build(tokenizer.vocab_size, tokenizer.pad_id, False)
        names[freeze] = trainable(encoder)
    assert names["embeddings"] == names[0] == {name for name in names[None] if not name.startswith("embeddings")}
    assert names[1] == {name for name in names[0] if not name.startswith("layers.0")}
    assert names[2] == {"final_norm"}
    assert names["all"] == set()


def test_frozen_layers_have_no_dropout_whatever_the_mode_of_the_model(tokenizer):
    encoder = transformer(freeze=1)
    encoder.build(tokenizer.vocab_size, tokenizer.pad_id, False)
    for _ in range(2):
        training = {
            name for name, module in encoder.named_modules() if module.training and list(module.children()) == []
        }
        assert {"layers.1.mlp.drop", "layers.1.attn.out_drop", "final_norm"} <= training
        assert not any(name.startswith(("embeddings", "layers.0")) for name in training)
        encoder.eval().train()


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (3, "encoder.freeze 3: this encoder has 2 layers: give a number up to 2, embeddings or all"),
        (-1, "encoder.freeze must be all, embeddings or a number of layers, not -1"),
        ("layers", "encoder.freeze must be all, embeddings or a number of layers, not 'layers'"),
    ],
)
def test_a_freeze_that_makes_no_sense_is_refused(freeze, message, tokenizer):
    with pytest.raises(UserError, match=message):
        transformer(freeze=freeze).build(tokenizer.vocab_size, tokenizer.pad_id, False)


@pytest.mark.parametrize(
    ("config", "embeddings", "top"),
    [
        (BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2), 5, 0),
        (GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0), 2, 2),
    ],
)
def test_the_depth_of_published_models_parameters(config, embeddings, top):
    """BERT has three tables and a norm before its layers, GPT-2 two tables, and a norm after its layers."""
    model = AutoModel.from_config(config, **({"add_pooling_layer": False} if isinstance(config, BertConfig) else {}))
    found = list(parameter_depths(model).values())
    assert found.count(0) == embeddings
    assert found.count(3) == top
    assert found.count(1) == found.count(2) == (len(found) - embeddings - top) // 2


def test_untrained_it_is_the_same_encoder_with_other_weights_and_no_ancestry(tokenizer, tmp_path):
    source = MaskedLM(transformer())
    encoder = trained(source, tokenizer, tmp_path, untrained=True)
    assert (encoder.hparams(), encoder.ancestry) == (source.encoder.hparams(), ())
    assert encoder.tokenizer.fingerprint() == tokenizer.fingerprint()
    encoder.build(tokenizer.vocab_size, tokenizer.pad_id, False)
    assert encoder.embedding.weight.shape == source.encoder.embedding.weight.shape
    assert not torch.equal(encoder.embedding.weight, source.encoder.embedding.weight)


def test_a_task_that_is_resumed_or_tested_sees_as_it_was_trained(tokenizer, tmp_path):
    """Commands on a run take its encoder from its own checkpoint, which must not forget that it was causal."""
    encoder = trained(CausalLM(transformer()), tokenizer, tmp_path)
    task = Classification(encoder, classes=["a", "b"])
    path = save_untrained(task, tokenizer, tmp_path / "task.ckpt")
    again = described_encoder(read(path), str(path), None)
    again.build(tokenizer.vocab_size, tokenizer.pad_id, None)
    assert encoder.causal and again.causal
