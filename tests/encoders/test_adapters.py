"""Adapters on our Transformer and on models of `transformers`, beside plain models of peft."""

import copy
import sys
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModel, BertConfig, GPT2Config

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Transformer
from ssl_nlp.encoders.adapters import IA3, AdaLoRA, Adapter, LoRA, PromptTuning, merged, save_peft, without_adapter
from ssl_nlp.errors import UserError
from ssl_nlp.training import Optimization
from ssl_nlp.training.optimizers import build_optimizer

VOCAB = 40
MODELS = {
    "bert": BertConfig(
        vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=30, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=30, bos_token_id=2, eos_token_id=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    ),
}  # fmt: skip
ADAPTERS: dict[str, Adapter] = {
    "lora": LoRA(rank=2, alpha=4.0),
    "adalora": AdaLoRA(rank=1, initial_rank=3),
    "ia3": IA3(),
    "prompt": PromptTuning(length=3),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind, as `save_pretrained` writes it."""
    torch.manual_seed(0)
    paths = {name: tmp_path_factory.mktemp(name) for name in MODELS}
    for name, config in MODELS.items():
        AutoModel.from_config(config).save_pretrained(paths[name])
    return paths


def encoder_of(kind: str, adapter: Adapter | None, folders: dict[str, Path]) -> Encoder:
    """A built encoder in evaluation mode; its adapter is as after some training."""
    torch.manual_seed(1)
    encoder: Encoder
    if kind.startswith("transformer"):
        encoder = Transformer(size=None, dim=16, layers=2, heads=2, max_length=30, adapter=adapter)
    else:
        encoder = PretrainedEncoder(str(folders[kind]), adapter=adapter)
    encoder.build(VOCAB, 0, kind in ("gpt2", "transformer-causal"))
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder.eval()


def rows() -> TokenBatch:
    """Two texts, one of them padded."""
    ids = torch.randint(1, VOCAB, (2, 7), generator=torch.Generator().manual_seed(2))
    segments = torch.ones_like(ids)
    segments[1, 5:] = 0
    return TokenBatch(ids.where(segments > 0, 0), segments, packed=False)


KINDS = ["bert", "gpt2", "transformer", "transformer-causal"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_only_the_adapter_gets_a_gradient(adapter: str, kind: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of(kind, ADAPTERS[adapter], folders)
    plain = encoder_of(kind, None, folders)
    batch = rows()
    states = encoder(batch)
    assert states.shape == plain(batch).shape
    assert not torch.allclose(states, plain(batch), atol=1e-3)
    states.square()[batch.is_text].sum().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.requires_grad == (name not in encoder.base_names and "ranknum" not in name)
    assert len(encoder.base_names) == len(plain.state_dict())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", [name for name in ADAPTERS if name != "prompt"])
def test_a_merged_encoder_equals_the_adapted_one(adapter: str, kind: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of(kind, ADAPTERS[adapter], folders)
    plain = merged(encoder)
    torch.testing.assert_close(plain(rows()), encoder(rows()), rtol=1e-5, atol=1e-5)
    assert plain.adapter is None and plain.state_dict().keys() == encoder_of(kind, None, folders).state_dict().keys()
    assert all(parameter.requires_grad for parameter in plain.parameters())


def test_a_prompt_cannot_be_merged(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="cannot be merged"):
        merged(encoder_of("transformer", ADAPTERS["prompt"], folders))


PEFT = {
    "lora": lambda kind: peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"),
    "adalora": lambda kind: peft.AdaLoraConfig(
        init_r=3, target_r=1, lora_alpha=16, total_step=10, target_modules="all-linear"
    ),
    "ia3": lambda kind: peft.IA3Config(),
    "prompt": lambda kind: peft.PromptTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_states_and_gradients_are_those_of_peft(adapter: str, kind: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of(kind, ADAPTERS[adapter], folders).train()
    options = {"add_pooling_layer": False} if kind == "bert" else {}
    model = peft.get_peft_model(AutoModel.from_pretrained(folders[kind], **options), PEFT[adapter](kind))
    theirs = dict(model.named_parameters())
    if adapter == "prompt":
        names = {"prompt.weight": "prompt_encoder.default.embedding.weight"}
    else:
        names = {name: name.replace("model.", "base_model.model.", 1) for name, _ in encoder.named_parameters()}
        assert theirs.keys() == set(names.values())
    with torch.no_grad():
        for ours, name in names.items():
            theirs[name].copy_(encoder.get_parameter(ours))
    batch = rows()
    mask = batch.is_text.long()
    expected = model(input_ids=batch.input_ids, attention_mask=mask).last_hidden_state[:, -batch.input_ids.shape[1] :]
    states = encoder(batch)
    torch.testing.assert_close(states[batch.is_text], expected[batch.is_text], rtol=1e-5, atol=1e-5)
    for output in (states, expected):
        output[batch.is_text].square().sum().backward()
    for ours, name in names.items():
        grads = encoder.get_parameter(ours).grad, theirs[name].grad
        assert (grads[0] is None) == (grads[1] is None), ours
        if grads[0] is not None:
            torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4, msg=ours)


def test_without_its_adapter_an_encoder_is_its_base(folders: dict[str, Path]) -> None:
    for adapter in ADAPTERS.values():
        base = without_adapter(encoder_of("transformer", adapter, folders))
        plain = Transformer(**base.hparams())
        plain.build(VOCAB, 0, False)
        plain.load_state_dict(base.state_dict())
        assert torch.equal(base(rows()), plain.eval()(rows()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_peft_loads_what_was_written(adapter: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = encoder_of(kind, ADAPTERS[adapter], folders)
    save_peft(encoder, tmp_path, base="of-the-base")
    base = without_adapter(encoder)
    body = base.to_transformers() if isinstance(base, Transformer) else base.model
    model = peft.PeftModel.from_pretrained(body, str(tmp_path)).eval()
    assert model.peft_config["default"].base_model_name_or_path == "of-the-base"
    batch = rows()
    states = model(input_ids=batch.input_ids, attention_mask=batch.is_text.long()).last_hidden_state[:, -7:]
    torch.testing.assert_close(states[batch.is_text], encoder(batch)[batch.is_text], rtol=1e-4, atol=1e-4)


def test_some_targets_of_a_fused_matrix_are_written(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = encoder_of("transformer", LoRA(rank=3, targets=["v_proj", "q_proj", "gate_proj"]), folders)
    save_peft(encoder, tmp_path)
    model = peft.PeftModel.from_pretrained(without_adapter(encoder).to_transformers(), str(tmp_path))
    batch = rows()
    states = model(input_ids=batch.input_ids, attention_mask=batch.is_text.long()).last_hidden_state
    torch.testing.assert_close(states[batch.is_text], encoder(batch)[batch.is_text], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "transformer-causal"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_cache_gives_the_states_of_the_whole_text(adapter: str, kind: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of(kind, ADAPTERS[adapter], folders)
    ids = torch.randint(1, VOCAB, (2, 8), generator=torch.Generator().manual_seed(3))
    shorter = TokenBatch(ids[1:, 2:], torch.ones(1, 6, dtype=torch.long), packed=False, padded=False)
    longer = TokenBatch(ids[:1], torch.ones(1, 8, dtype=torch.long), packed=False, padded=False)
    segments = torch.ones_like(ids)
    segments[1, :2] = 0  # the shorter text is padded on the left
    with torch.no_grad():
        cache = encoder.new_cache(2, 8)
        parts = [TokenBatch(ids[:, part], segments[:, part]) for part in (slice(5), slice(5, 6), slice(6, 8))]
        states = torch.cat([encoder(part, cache) for part in parts], dim=1)
        torch.testing.assert_close(states[:1], encoder(longer), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(states[1:, 2:], encoder(shorter), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_packed_documents_stay_apart_or_are_refused(adapter: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of("transformer", ADAPTERS[adapter], folders)
    ids = torch.randint(1, VOCAB, (1, 8), generator=torch.Generator().manual_seed(3))
    packed = TokenBatch(ids, torch.tensor([[1] * 5 + [2] * 3]))
    if adapter == "prompt":
        with pytest.raises(UserError, match=r"set data\.unit to sentence"):
            encoder(packed)
        return
    alone = TokenBatch(ids[:, 5:], torch.ones(1, 3, dtype=torch.long), packed=False, padded=False)
    torch.testing.assert_close(encoder(packed)[:, 5:], encoder(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_copy_has_an_adapter_of_its_own(adapter: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of("transformer", ADAPTERS[adapter], folders)
    twin = copy.deepcopy(encoder)
    before = twin(rows())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert torch.equal(twin(rows()), before)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_it_compiles_as_one_graph(adapter: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of("transformer", ADAPTERS[adapter], folders)
    with torch.no_grad():
        expected = encoder(rows())
        encoder.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(encoder(rows()), expected)


def test_vectors_of_an_adapter_have_no_decay_and_matrices_may_be_trained_by_muon(folders: dict[str, Path]) -> None:
    groups = {
        name: {group["name"] for group in build_optimizer(encoder, Optimization(optimizer="adamw")).param_groups}
        for name, adapter in ADAPTERS.items()
        for encoder in [encoder_of("transformer", adapter, folders)]
    }
    assert groups == {"lora": {"decay"}, "adalora": {"decay", "no_decay"}, "ia3": {"no_decay"}, "prompt": {"no_decay"}}
    optimizer = build_optimizer(encoder_of("transformer", AdaLoRA(1, 3), folders), Optimization(optimizer="muon"))
    assert {group["name"] for group in optimizer.param_groups} == {"muon", "no_decay"}


def test_a_prompt_shortens_the_longest_row(folders: dict[str, Path]) -> None:
    encoder = encoder_of("bert", PromptTuning(length=3), folders)
    ids = torch.ones(1, 28, dtype=torch.long)
    assert encoder.max_length == 27
    encoder(TokenBatch(ids[:, :27], ids[:, :27], packed=False, padded=False))
    with pytest.raises(UserError, match="a row of 28 tokens is longer than the encoder's max_length of 27"):
        encoder(TokenBatch(ids, ids, packed=False, padded=False))


@pytest.mark.filterwarnings("ignore")
def test_ranks_fall_as_those_of_peft(folders: dict[str, Path]) -> None:
    targets = ["query", "value", "intermediate.dense"]
    adapter = AdaLoRA(rank=1, initial_rank=3, begin=0.2, end=0.3, targets=targets)
    encoder = encoder_of("bert", adapter, folders)
    config = peft.AdaLoraConfig(
        init_r=3, target_r=1, lora_alpha=16, tinit=2, tfinal=3, total_step=10, target_modules=targets,
        task_type="FEATURE_EXTRACTION",
    )  # fmt: skip
    model = peft.get_peft_model(AutoModel.from_pretrained(folders["bert"], add_pooling_layer=False), config)
    theirs = {name.replace("base_model.model.", "model.", 1): weight for name, weight in model.named_parameters()}
    ours = {name: weight for name, weight in encoder.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for name, weight in ours.items():
            theirs[name].copy_(weight)
    left = []
    for step in range(10):
        for name, weight in ours.items():
            torch.manual_seed(step)
            weight.grad = torch.randn_like(weight)
            theirs[name].grad = weight.grad.clone()
            with torch.no_grad():
                weight.sub_(0.01 * weight.grad)
                theirs[name].sub_(0.01 * weight.grad)
        encoder.after_step(step, 10)
        model.base_model.update_and_allocate(step)
        left.append(sum(int((weight != 0).sum()) for name, weight in ours.items() if "lora_E" in name))
        for name, weight in ours.items():
            assert torch.equal(weight, theirs[name]), (step, name)
    maps = len(ours) // 3
    assert left[0] == 3 * maps and left[-1] <= maps


def test_the_penalty_is_that_of_peft(folders: dict[str, Path]) -> None:
    encoder = encoder_of("transformer", AdaLoRA(rank=1, initial_rank=3, orthogonality=0.25), folders)
    distances = []
    for name, weight in encoder.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = weight @ weight.T if "lora_A" in name else weight.T @ weight
            distances.append((product - torch.eye(3)).square().sum().sqrt())
    torch.testing.assert_close(encoder.penalty(), 0.25 * sum(distances) / len(distances))
    assert encoder_of("transformer", LoRA(), folders).penalty() is None


def test_norms_and_biases_may_train_too(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = encoder_of("bert", LoRA(targets=["query"], norms_and_biases=True), folders)
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"weight", "bias"}
    assert "model.encoder.layer.0.output.LayerNorm.weight" in trained
    assert "model.encoder.layer.0.output.dense.bias" in trained
    assert trained.isdisjoint(encoder.base_names)
    with pytest.raises(UserError, match="merge instead"):
        save_peft(encoder, tmp_path)


def test_only_the_targets_are_adapted(folders: dict[str, Path]) -> None:
    encoder = encoder_of("bert", LoRA(targets=["query", "intermediate.dense"]), folders)
    adapted = {name.split(".lora_A")[0] for name, _ in encoder.named_parameters() if ".lora_A" in name}
    layers = [f"model.encoder.layer.{index}" for index in range(2)]
    names = [f"{layer}.{part}" for layer in layers for part in ("attention.self.query", "intermediate.dense")]
    assert adapted == set(names)


@pytest.mark.parametrize(
    ("kind", "adapter", "message"),
    [
        (
            "bert",
            LoRA(targets=["q_proj"]),
            "no linear map is named q_proj: choose targets among dense, key, query, value",
        ),
        ("transformer", IA3(targets=["embeddings"]), "no linear map is named embeddings"),
        ("transformer", PromptTuning(length=30), "leaves no room in rows of 30 tokens"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    kind: str, adapter: Adapter, message: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=message):
        encoder_of(kind, adapter, folders)


def test_settings_are_checked_together() -> None:
    with pytest.raises(UserError, match="rank must be 1 or more, not 0; alpha must be positive, not -1"):
        LoRA(rank=0, alpha=-1)
    with pytest.raises(UserError, match="initial_rank 8 is not larger than rank 8"):
        AdaLoRA(rank=8, initial_rank=8)
    with pytest.raises(UserError, match="feedforward mlp.Wo must be among the targets"):
        IA3(targets=["k_proj"], feedforward=["mlp.Wo"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"encoder\.adapter needs the package peft: pip install 'ssl_nlp\[peft\]'"):
        Transformer(size="tiny", adapter=LoRA()).build(VOCAB, 0, False)
