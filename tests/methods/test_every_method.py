"""What is promised of every method: it resumes to the bit, and trains with any encoder or says why it cannot.

A method is added by a line of `METHODS`. Two processes are in `test_distributed_methods.py`.
"""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModel, BertConfig, BertTokenizerFast, GPT2Config, GPT2TokenizerFast

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Trained, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import FreeGeneration
from ssl_nlp.evaluation.capabilities import Drawer
from ssl_nlp.methods import (
    ARAE,
    VAE,
    Autoencoder,
    CausalLM,
    CausalMaskedLM,
    MaskedDiffusion,
    MaskedLM,
    Method,
    MoCo,
    MultiObjective,
    Optimization,
    Ramp,
    ReplacedToken,
    SimCLR,
    SpanCorruption,
    TextInfilling,
)
from ssl_nlp.objectives.views import Delete, Repeat
from ssl_nlp.training.flops import estimated_flops, training_cost
from ssl_nlp.training.module import Module
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import save_untrained

CORPUS = ListCorpus([*zip(random_texts(14, longest=12), random_texts(14, seed=1, longest=12), strict=True)])
METHODS: dict[str, Callable[[], Method]] = {
    "causal_lm": CausalLM,
    "causal_masked_lm": lambda: CausalMaskedLM(causal_share=Ramp(0.7, 0.3, steps=4), masking_rate=Ramp(0.3, 0.15)),
    "masked_diffusion": lambda: MaskedDiffusion(max_masking_rate=Ramp(0.3, 1.0, steps=0.5)),
    "masked_lm": lambda: MaskedLM(masking_unit="word"),
    "masked_lm_next": lambda: MaskedLM(sentence_pairs="next"),
    "masked_lm_order": lambda: MaskedLM(sentence_pairs="order"),
    "replaced_token": ReplacedToken,
    "simclr": lambda: SimCLR(learn_temperature=True),
    "moco": lambda: MoCo(views=[Repeat(0.2)], queue=8, momentum=0.5),
    "autoencoder": lambda: Autoencoder(latent_dim=8),
    "tsdae": lambda: Autoencoder(noise=[Delete(0.6)], tied_embeddings=True),
    "vae": lambda: VAE(annealing="linear", annealing_steps=10, word_dropout=0.2, importance_samples=2),
    "arae": lambda: ARAE(latent_dim=8, autoencoder_every=2, generator_every=3, noise_left=0.1),
    "span_corruption": lambda: SpanCorruption(dropout=0.1),
    "text_infilling": lambda: TextInfilling(tied_embeddings=False),
    "multi_objective": lambda: MultiObjective(
        objectives=[MaskedLM(), CausalLM(), MoCo(queue=8)], weights=[1.0, 0.5, 2.0], gradient_cosine_every=2
    ),
}
CAUSAL = ("causal_lm",)
DRAWERS = ("causal_lm", "causal_masked_lm", "masked_diffusion", "vae", "arae")
BOTH = ("causal_masked_lm", "multi_objective")  # needs an encoder that can be causal and bidirectional


def data(method: Method) -> TextDataModule:
    unit = "pair" if "sentence" not in method.units else "sentence"
    settings = TokenizerSettings(vocab_size=300, sentinels=4)
    return TextDataModule(CORPUS, settings, unit, length=40, batch_size=4, seed=0)


def made(name: str, encoder: Encoder) -> Method:
    method = METHODS[name]()
    method.encoder = encoder
    method.optimization = Optimization(learning_rate=0.01, warmup=0)
    return method


def trainer(folder: Path, steps: int, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(default_root_dir=folder, accelerator="cpu", max_steps=steps, **(quiet | arguments))


@pytest.mark.parametrize("name", METHODS)
def test_the_targets_it_counts_without_a_forward_pass_are_those_of_its_loss(name):
    """They are asked for where batches are accumulated, before the first of them is trained on."""
    method = made(name, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1))
    module = data(method)
    method.connect(module.tokenizer)
    method.train()
    for batch in module.val_dataloader():
        counts = []
        for count in (type(method).count_targets, Module.count_targets):
            torch.manual_seed(3)
            counts.append({name: int(number) for name, number in count(method, batch).items()})
        assert counts[0] == counts[1]


@pytest.mark.parametrize("name", METHODS)
def test_the_operations_of_its_steps_are_counted_without_a_trace(name):
    method = made(name, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1))
    module = data(method)
    method.connect(module.tokenizer)
    method.train()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    batch = next(iter(module.val_dataloader()))
    # A pass without a gradient needs no more; backward, attention computes its weights once more.
    assert 0.6 < training_cost(method, batch).flops / estimated_flops(method, batch) < 1.03
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_bits(name, tmp_path):
    """The checkpoint is of step 3 of the 4 of an epoch, the end in the next epoch; there is dropout."""

    def fit(checkpoint: Path | None = None) -> Method:
        method = made(name, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1))
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=3)
        run = trainer(tmp_path, 6, limit_val_batches=0, callbacks=[] if checkpoint else [keep])
        run.fit(method, data(method), ckpt_path=checkpoint, weights_only=True)
        return method

    whole = fit().state_dict()
    half = torch.load(tmp_path / "step=3.ckpt", weights_only=True)["state_dict"]
    resumed = fit(tmp_path / "step=3.ckpt").state_dict()
    assert whole.keys() == resumed.keys() == half.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    assert not all(torch.equal(value, half[key]) for key, value in whole.items())


USES = {"generate": ["a"], "draw": 2, "score": ["a dog"], "fill_mask": "a [MASK] b", "infill": ["a [MASK] b"]}


@pytest.mark.parametrize("name", METHODS)
def test_what_it_does_with_texts_in_a_training_is_without_dropout_and_leaves_every_mode(name):
    """Also where a `MultiObjective` has the encoder, so that the modes of the objective itself are not those that count."""
    method, encoder = METHODS[name](), Transformer(size=None, dim=16, layers=1, heads=2, max_length=80, dropout=0.1)
    owner = method
    if name in ("arae", "multi_objective"):  # which cannot be one of several objectives
        method.encoder = encoder
    else:
        owner = MultiObjective(encoder, [method])
    owner.connect(data(owner).tokenizer)
    owner.train()
    training = {part: part.training for part in [*owner.modules(), *method.modules()]}
    seen = set()
    for part in training:
        part.register_forward_pre_hook(lambda part, args: seen.add(part.training))
    texts = random_texts(3, seed=1)
    method.samples(texts)
    owner.samples(texts)
    method.embed(texts)
    for use, given in USES.items():
        if hasattr(method, use):
            getattr(method, use)(given)
    assert seen == {False}
    assert training == {part: part.training for part in training}


@pytest.mark.parametrize("name", METHODS)
def test_a_copy_trains_like_its_original_and_leaves_it_alone(name, tmp_path):
    """Weights that are tied are so in the copy: they would train differently otherwise."""
    method = made(name, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1))

    def fit(some: Method) -> dict[str, torch.Tensor]:
        trainer(tmp_path, 1, limit_val_batches=0, enable_checkpointing=False).fit(some, data(some))
        return {key: value.clone() for key, value in some.state_dict().items()}

    before = fit(method)
    twin = copy.deepcopy(method)
    copied = fit(twin)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    for key, value in fit(method).items():
        assert torch.equal(value, copied[key]), key
    assert not all(torch.equal(value, before[key]) for key, value in copied.items())


@pytest.mark.parametrize("name", METHODS)
def test_what_it_says_of_a_batch_is_on_its_device(name, monkeypatch):
    """`meta` stands for an accelerator: what mixes it with the CPU fails, or is left behind."""
    for name_of, known in (("autocast", nullcontext()), ("is_autocast_enabled", False)):  # which it does not know
        monkeypatch.setattr(torch, name_of, lambda *arguments, known=known, **options: known)
    method = made(name, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    module = data(method)
    method.connect(module.tokenizer)
    batch = next(iter(module.val_dataloader())).to("meta")
    loss = method.to("meta").loss(batch)
    parts = [*((term.total, term.targets) for term in loss.terms.values()), *loss.metrics.values()]
    assert {part.device.type for pair in parts for part in pair} == {"meta"}


@pytest.mark.parametrize("name", METHODS)
def test_no_texts_are_no_embeddings_and_no_samples(name):
    method = made(name, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    method.connect(data(method).tokenizer)
    assert method.embed([]).shape == (0, method.embedding_dim)
    assert method.samples([]) == []


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny models with random weights, a bidirectional and a causal one, and their tokenizers."""
    words = sorted({word for pair in CORPUS.texts["train"] for text in pair for word in text.split()})
    sentinels = [f"<extra_id_{i}>" for i in range(4)]
    paths = {kind: tmp_path_factory.mktemp(kind) for kind in ("bert", "gpt2")}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sentinels, *words]
    (paths["bert"] / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizerFast(str(paths["bert"] / "vocab.txt"), additional_special_tokens=sentinels)
    tokenizer.save_pretrained(paths["bert"])
    letters = ["<|endoftext|>", "Ġ", *"abcdefghijklmnopqrstuvwxyz.,"]
    GPT2TokenizerFast(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]).save_pretrained(paths["gpt2"])
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    bert = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **size)
    gpt2 = GPT2Config(vocab_size=len(letters), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    for kind, config in (("bert", bert), ("gpt2", gpt2)):
        AutoModel.from_config(config).save_pretrained(paths[kind])
    return {kind: str(path) for kind, path in paths.items()}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in BOTH])
def test_it_trains_a_pretrained_encoder_and_its_checkpoint_needs_no_other_file(name, pretrained, tmp_path):
    method = made(name, PretrainedEncoder(pretrained["gpt2" if name in CAUSAL else "bert"]))
    module = data(method)
    run = trainer(tmp_path, 2, limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=0)
    run.fit(method, module)
    assert torch.isfinite(run.callback_metrics["val/loss"])
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    texts = ["the dog sees a cat", "a bird"]
    assert loaded.embed(texts).isfinite().all()
    torch.testing.assert_close(loaded.embed(texts), method.embed(texts))


@pytest.mark.parametrize("name", METHODS)
def test_its_encoder_starts_other_methods_and_theirs_starts_it(name, tmp_path):
    """To the bit, in both directions of sight; training changes the weights, and the old checkpoint is needed no more."""
    for old, new in {(name, "causal_lm"), (name, "simclr"), ("masked_lm", name)}:
        source = made(old, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=0.1))
        tokenizer = data(source).tokenizer
        save_untrained(source, tokenizer, tmp_path / "a.ckpt")
        method = made(new, Trained(str(tmp_path / "a.ckpt")))
        assert method.tokenizer_wanted.fingerprint() == tokenizer.fingerprint()
        module = data(method)
        method.connect(module.tokenizer)
        batch = next(iter(data(source).val_dataloader())).without_labels()
        for causal in (False, True):
            seen = replace(batch, causal=causal)
            assert torch.equal(method.eval().encoder(seen), source.eval().encoder(seen))
        before = {name: weight.clone() for name, weight in method.encoder.state_dict().items()}
        run = trainer(tmp_path, 2, limit_val_batches=0, enable_checkpointing=False)
        run.fit(method, module)
        assert not all(torch.equal(weight, before[name]) for name, weight in method.encoder.state_dict().items())
        run.save_checkpoint(tmp_path / "b.ckpt")
        (tmp_path / "a.ckpt").unlink()
        loaded = Method.load_from_checkpoint(tmp_path / "b.ckpt")
        assert type(loaded.encoder) is Transformer
        assert [one["method"] for one in loaded.encoder.ancestry] == [type(source).__name__]
        assert torch.equal(loaded.embed(["the dog sees a cat"]), method.embed(["the dog sees a cat"]))


@pytest.mark.parametrize("name", METHODS)
def test_a_pretrained_encoder_of_the_other_kind_is_refused_in_one_line(name, pretrained, tmp_path):
    method = made(name, PretrainedEncoder(pretrained["bert" if name in (*CAUSAL, *BOTH) else "gpt2"]))
    with pytest.raises(UserError, match=r"causal|no mask token") as caught:
        trainer(tmp_path, 1, enable_checkpointing=False).fit(method, data(method))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("optimization", "frozen", "setting"),
    [
        (Optimization(optimizer="muon", learning_rate=2e-5), False, "muon_learning_rate 0.02"),
        (Optimization(learning_rate=1e-3), False, "learning_rate 0.001"),
        (Optimization(optimizer="muon", learning_rate=1e-3, muon_learning_rate=None), False, "learning_rate 0.001"),
        (Optimization(learning_rate=5e-5), False, None),
        (Optimization(optimizer="muon", learning_rate=5e-5, muon_learning_rate=None), False, None),
        (Optimization(optimizer="muon", learning_rate=5e-5, muon_learning_rate=5e-4), False, None),
        (Optimization(learning_rate=1e-3), True, None),
    ],
)
def test_rates_that_would_undo_pretrained_weights_are_warned_of(
    optimization, frozen, setting, pretrained, tmp_path, capfd
):
    """In one line; heads over a frozen encoder are new, and may learn as fast as they like."""
    method = MaskedLM(PretrainedEncoder(pretrained["bert"]), optimization=optimization)
    module = data(method)
    module.settings = TokenizerSettings(name=pretrained["bert"])
    method.connect(module.tokenizer)
    method.encoder.requires_grad_(not frozen)
    trainer(tmp_path, 1, limit_val_batches=0, enable_checkpointing=False).fit(method, module)
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: optimization.")]
    assert [line.partition(" is unusual")[0] for line in warnings] == (
        [] if setting is None else [f"warning: optimization.{setting}"]
    )


def test_new_weights_may_be_trained_at_any_rate(tmp_path, capfd):
    method = made("masked_lm", Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    trainer(tmp_path, 1, limit_val_batches=0, enable_checkpointing=False).fit(method, data(method))
    assert "unusual" not in capfd.readouterr().err


@pytest.mark.parametrize("name", METHODS)
def test_those_that_draw_texts_are_measured_by_free_generation_and_the_others_are_not(name):
    method = made(name, Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    method.connect(data(method).tokenizer)
    assert isinstance(method, Drawer) == (name in DRAWERS)
    if isinstance(method, Drawer):
        texts = [text for text, _ in CORPUS.texts["train"]]
        evaluator = FreeGeneration(texts[:10], texts[10:12], texts[12:])
        first, again = evaluator(method), evaluator(method)
        assert first.metrics == again.metrics  # the draws have a seed of their own
        assert first.metrics["copies"] == 0  # nobody has learned anything
        assert all(map(math.isfinite, first.metrics.values()))
