"""Checkpoints of adapted encoders: without the base, which they name, and as the start of other encoders."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Trained, Transformer
from ssl_nlp.encoders.adapters import IA3, AdaLoRA, Adapter, LoRA, PromptTuning, merged
from ssl_nlp.encoders.start import find_base
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM, Method, MoCo
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import save_untrained

TEXTS = ["a b c d", "e f"]
LORA = LoRA(rank=2)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=300), ListCorpus(random_texts(40)))


def transformer(adapter: Adapter | None = None) -> Transformer:
    return Transformer(None, dim=16, layers=2, heads=2, max_length=64, adapter=adapter)


def change(encoder: Encoder) -> None:
    """Change an adapter as a training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def saved(method: Method, tokenizer: Tokenizer, path: Path) -> Path:
    """Write the checkpoint of a method whose adapter has been trained."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    method.connect(tokenizer)
    change(method.encoder)
    return save_untrained(method.eval(), tokenizer, path)


def names(path: Path) -> set[str]:
    return {name for name in torch.load(path, weights_only=True)["state_dict"] if name.startswith("encoder.")}


@pytest.fixture
def base(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of a run, in whose folder of runs this test works."""
    monkeypatch.chdir(tmp_path)
    return saved(MaskedLM(transformer()), tokenizer, Path("runs/old/checkpoints/last.ckpt").absolute())


@pytest.mark.parametrize("adapter", [LORA, AdaLoRA(rank=1, initial_rank=2), IA3(), PromptTuning(3)])
def test_a_checkpoint_holds_the_adapter_and_names_the_run_of_its_base(adapter, tokenizer, base, tmp_path):
    method = MaskedLM(Trained("old", adapter=adapter))
    path = saved(method, tokenizer, tmp_path / "a.ckpt")
    state = method.encoder.state_dict()
    assert names(path) == {f"encoder.{name}" for name in state.keys() - set(method.encoder.base_names)}
    loaded = MaskedLM.load_from_checkpoint(path)
    for name, weight in method.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert torch.equal(loaded.embed(TEXTS), method.embed(TEXTS))
    assert names(saved_again(loaded, tokenizer, tmp_path)) == names(path)


def saved_again(method: Method, tokenizer: Tokenizer, folder: Path) -> Path:
    return save_untrained(method, tokenizer, folder / "again.ckpt")


def test_copies_of_the_encoder_are_left_out_too(tokenizer, base, tmp_path):
    method = MoCo(Trained("old", adapter=LORA), queue=4)
    path = saved(method, tokenizer, tmp_path / "a.ckpt")
    held = torch.load(path, weights_only=True)["state_dict"]
    assert not [name for name in held if name.endswith("tok_embeddings.weight")]
    loaded = MoCo.load_from_checkpoint(path).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in method.state_dict().items())


def test_a_published_model_is_named_by_its_folder_and_read_without_a_download(tokenizer, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = AutoModel.from_config(BertConfig(vocab_size=tokenizer.vocab_size, **size))
    model.save_pretrained(tmp_path / "bert")
    method = MaskedLM(PretrainedEncoder(str(tmp_path / "bert"), adapter=LORA))
    path = saved(method, tokenizer, tmp_path / "a.ckpt")
    assert all("lora_" in name for name in names(path))
    assert torch.equal(MaskedLM.load_from_checkpoint(path).embed(TEXTS), method.embed(TEXTS))

    shutil.move(tmp_path / "bert", tmp_path / "base")  # beside the checkpoint
    assert torch.equal(MaskedLM.load_from_checkpoint(path).embed(TEXTS), method.embed(TEXTS))
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.add_(1)
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(
        UserError, match="holds only the adapter of .*bert, which has other weights now: put the one with"
    ):
        MaskedLM.load_from_checkpoint(path)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(UserError, match=f"bert, which is not there: put .* back, or a link to it at {tmp_path}/base"):
        MaskedLM.load_from_checkpoint(path)


def test_a_base_is_found_beside_the_checkpoint_and_among_the_runs_or_is_missing_in_one_line(tokenizer, base, tmp_path):
    method = MaskedLM(Trained("old", adapter=LORA))
    path = saved(method, tokenizer, tmp_path / "moved/runs/new/checkpoints/last.ckpt")
    expected = method.embed(TEXTS)
    shutil.move("runs/old", "moved/runs/old")
    assert torch.equal(MaskedLM.load_from_checkpoint(path).embed(TEXTS), expected)
    shutil.move("moved/runs/old/checkpoints/last.ckpt", path.with_name("base.ckpt"))
    assert torch.equal(MaskedLM.load_from_checkpoint(path).embed(TEXTS), expected)
    path.with_name("base.ckpt").unlink()
    with pytest.raises(UserError, match=r"\(runs/old\), which is not there: .* at .*new/checkpoints/base\.ckpt$"):
        MaskedLM.load_from_checkpoint(path)


def test_a_checkpoint_in_a_folder_of_the_root_misses_its_base_in_one_line():
    with pytest.raises(UserError, match=r"^/a\.ckpt holds only the adapter .*, which is not there"):
        find_base({"place": "/old.ckpt", "run": "old", "digest": "0" * 64}, "/a.ckpt")


def test_a_base_that_was_trained_longer_is_refused(tokenizer, base, tmp_path):
    path = saved(MaskedLM(Trained("old", adapter=LORA)), tokenizer, tmp_path / "a.ckpt")
    content = torch.load(base, weights_only=True)
    content["global_step"] = 1
    shutil.copy(base, base.with_name("previous.ckpt"))
    torch.save(content, base)
    MaskedLM.load_from_checkpoint(path)  # its old checkpoint is still there
    base.with_name("previous.ckpt").unlink()
    with pytest.raises(
        UserError, match=r"last\.ckpt \(runs/old\), which has other weights now: put the one with the SHA-256"
    ):
        MaskedLM.load_from_checkpoint(path)


def test_random_weights_cannot_be_named_and_are_in_the_checkpoint(tokenizer, tmp_path):
    method = MaskedLM(transformer(LORA))
    path = saved(method, tokenizer, tmp_path / "a.ckpt")
    assert names(path) == {f"encoder.{name}" for name in method.encoder.state_dict()}
    assert torch.equal(MaskedLM.load_from_checkpoint(path).embed(TEXTS), method.embed(TEXTS))


@pytest.mark.parametrize("adapter", [LORA, AdaLoRA(rank=1, initial_rank=2), IA3()])
def test_a_run_may_start_from_an_adapted_one_which_is_merged(adapter, tokenizer, base, tmp_path):
    method = MaskedLM(Trained("old", adapter=adapter))
    middle = saved(method, tokenizer, Path("runs/middle/checkpoints/last.ckpt").absolute())
    plain = Trained("middle")
    plain.build(tokenizer.vocab_size, tokenizer.pad_id, False)
    assert plain.adapter is None
    expected = merged(method.encoder).state_dict()
    assert plain.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in plain.state_dict().items())

    again = MaskedLM(Trained("middle", adapter=LORA))  # whose base needs a base itself
    path = saved(again, tokenizer, tmp_path / "a.ckpt")
    assert all("lora_" in name for name in names(path))
    assert torch.equal(MaskedLM.load_from_checkpoint(path).embed(TEXTS), again.embed(TEXTS))
    middle.unlink()
    with pytest.raises(UserError, match=r"a\.ckpt holds only the adapter of .*\(runs/middle\), which is not there"):
        MaskedLM.load_from_checkpoint(path)


def test_a_run_with_a_prompt_cannot_be_a_start(tokenizer, base, tmp_path):
    path = saved(MaskedLM(Trained("old", adapter=PromptTuning(3))), tokenizer, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt was trained with PromptTuning, which cannot be merged"):
        Trained(str(path))


def test_freezing_beside_an_adapter_is_refused(tokenizer, base):
    with pytest.raises(UserError, match="an adapter freezes all of the encoder: leave freeze out"):
        MaskedLM(Trained("old", freeze=1, adapter=LORA)).connect(tokenizer)


BROKEN: list[Any] = [None, {}, {"place": 3, "run": None, "digest": ""}, {"place": "a", "run": [], "digest": "b"}]


@pytest.mark.parametrize("value", BROKEN)
def test_a_broken_reference_is_one_line(value, tokenizer, base, tmp_path):
    path = saved(MaskedLM(Trained("old", adapter=LORA)), tokenizer, tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    content["ssl_nlp"]["base"] = value
    torch.save(content, path)
    with pytest.raises(UserError, match=r"a\.ckpt names no valid base of its adapter"):
        MaskedLM.load_from_checkpoint(path)


@pytest.mark.parametrize("place", ["../../etc/passwd", "/dev/zero.ckpt", "bert-base-uncased", "/dev"])
def test_a_checkpoint_from_elsewhere_gets_nothing_from_the_place_that_it_names(place, tokenizer, base, tmp_path):
    path = saved(MaskedLM(Trained("old", adapter=LORA)), tokenizer, tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    content["ssl_nlp"]["base"] = {"place": place, "run": "../..", "digest": "0" * 64}
    torch.save(content, path)
    with pytest.raises(UserError) as caught:
        MaskedLM.load_from_checkpoint(path)
    assert "\n" not in str(caught.value)
