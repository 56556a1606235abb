"""Every method trains an adapter, and leaves the weights of the encoder alone."""

import pytest
import torch

from ssl_nlp.encoders import Trained, Transformer
from ssl_nlp.encoders.adapters import IA3, AdaLoRA, Adapter, LoRA, PromptTuning
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM, Method
from tests.end_to_end.cli import save_untrained
from tests.methods.test_every_method import METHODS, data, made, trainer

ADAPTERS: list[Adapter] = [LoRA(rank=2), AdaLoRA(rank=1, initial_rank=2), IA3(), PromptTuning(3)]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: type(adapter).__name__)
@pytest.mark.parametrize("name", METHODS)
def test_it_trains_an_adapter_and_nothing_else_of_the_encoder(name, adapter, tmp_path):
    source = made("causal_lm", Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    save_untrained(source, data(source).tokenizer, tmp_path / "base.ckpt")
    method = made(name, Trained(str(tmp_path / "base.ckpt"), adapter=adapter))
    module = data(method)
    method.connect(module.tokenizer)
    before = {name: weight.clone() for name, weight in method.encoder.state_dict().items()}
    run = trainer(tmp_path, 4, limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=0)
    run.fit(method, module)
    assert torch.isfinite(run.callback_metrics["val/loss"])
    changed = {name for name, weight in method.encoder.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and changed.isdisjoint(method.encoder.base_names)
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.state_dict().keys() == method.state_dict().keys()
    assert all(torch.equal(weight, method.state_dict()[name]) for name, weight in loaded.state_dict().items())


def test_a_head_that_shares_the_embedding_of_the_base_trains_its_own_layers(tmp_path):
    method = made("masked_lm", Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, adapter=LoRA(rank=2)))
    assert isinstance(method, MaskedLM)
    module = data(method)
    method.connect(module.tokenizer)
    before = {name: weight.clone() for name, weight in method.named_parameters()}
    trainer(tmp_path, 2, limit_val_batches=0, enable_checkpointing=False).fit(method, module)
    assert method.head.output_weight is method.encoder.embedding.weight
    changed = {name for name, weight in method.named_parameters() if not torch.equal(weight, before[name])}
    assert {"head.dense.weight", "head.norm.weight", "head.bias"} <= changed
    assert "encoder.embeddings.tok_embeddings.weight" not in changed


def test_a_checkpoint_of_an_adapter_is_refused_on_another_base(tmp_path):
    methods = []
    for number, name in enumerate(("a", "b")):
        torch.manual_seed(number)
        source = made("causal_lm", Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
        save_untrained(source, data(source).tokenizer, tmp_path / f"{name}.ckpt")
        methods.append(made("masked_lm", Trained(str(tmp_path / f"{name}.ckpt"), adapter=LoRA(rank=2))))
    first = trainer(tmp_path, 1, limit_val_batches=0)
    first.fit(methods[0], data(methods[0]))
    first.save_checkpoint(tmp_path / "adapted.ckpt")
    with pytest.raises(UserError, match=r"holds the adapter of .*a\.ckpt .*, and the encoder is .*b\.ckpt"):
        trainer(tmp_path, 2, limit_val_batches=0).fit(
            methods[1], data(methods[1]), ckpt_path=tmp_path / "adapted.ckpt", weights_only=True
        )
