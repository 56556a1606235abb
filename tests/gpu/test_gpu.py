"""What only a GPU shows: its kernels, bfloat16, compiled graphs, resuming, and agreement with the CPU.

The other tests run there, too: Lightning chooses the GPU where there is one. `make test ARGS=tests/gpu` runs these alone.
"""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ssl_nlp.commands.model_classes import load_model
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.encoders import Recurrent, Transformer
from ssl_nlp.methods import CausalLM, MaskedDiffusion, MaskedLM, Method
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.training.muon import orthogonalize
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import CONFIGS, run, run_process, save_untrained, small, write_texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

VOCAB, PAD = 512, 3
SHAPE = ["--model.encoder=ssl_nlp.encoders.Transformer"]
SHAPE += [f"--model.encoder.{name}" for name in ("size=null", "dim=64", "layers=2", "heads=2")]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def build(causal: bool, **arguments) -> Transformer:
    torch.manual_seed(0)
    encoder = Transformer(size=None, dim=128, layers=3, heads=2, **arguments)
    encoder.build(VOCAB, PAD, causal)
    return encoder.eval().to("cuda")


def packed_rows(rows: int = 4, length: int = 96) -> TokenBatch:
    """Rows of three documents and padding."""
    ids = torch.randint(4, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))
    segments = torch.zeros_like(ids)
    for document, (begin, end) in enumerate([(0, 17), (17, 60), (60, 90)]):
        segments[:, begin:end] = document + 1
    return TokenBatch(torch.where(segments > 0, ids, PAD), segments).to("cuda")


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_documents_do_not_see_each_other_to_the_bit(causal, dtype, window):
    encoder, batch = build(causal, window=window), packed_rows()
    other = batch.input_ids.clone()
    other[:, :17] = (other[:, :17] + 5) % VOCAB
    changed = TokenBatch(torch.where(batch.segment_ids > 0, other, PAD), batch.segment_ids)
    with torch.no_grad(), torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        one, two = encoder(batch), encoder(changed)
    assert not torch.equal(one[:, :17], two[:, :17])
    assert torch.equal(one[:, 17:90], two[:, 17:90])


@pytest.mark.parametrize("causal", [True, False])
def test_rows_of_one_document_need_no_kernel_but_flash_attention(causal):
    encoder = build(causal)
    ids = torch.randint(4, VOCAB, (4, 96), device="cuda")
    batch = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.autocast("cuda", torch.bfloat16):
        encoder(batch).float().square().sum().backward()


def test_packed_rows_need_no_kernel_that_keeps_all_scores_in_memory():
    encoder = build(causal=True)
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION), torch.autocast("cuda", torch.bfloat16):
        encoder(packed_rows()).float().square().sum().backward()


@pytest.mark.parametrize("causal", [True, False])
def test_a_compiled_encoder_has_the_states_of_the_eager_one(causal):
    encoder = build(causal, window=8)
    batch = packed_rows()
    with torch.no_grad():
        expected = encoder(batch)
        encoder.compile(dynamic=None)
        torch.testing.assert_close(encoder(batch), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "encoder"),
    [
        (CausalLM, {}),
        (MaskedLM, {}),
        (CausalLM, {"recurrent": "lstm"}),
    ],
    ids=["causal", "masked", "lstm"],
)
def test_scores_and_embeddings_are_those_of_the_cpu(kind, encoder):
    texts = random_texts(40, longest=12)
    torch.manual_seed(0)
    layers = Recurrent("lstm", dim=64) if encoder else Transformer(size=None, dim=64, layers=2, heads=2)
    method = kind(layers)
    method.connect(get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(texts)))
    method.eval()
    on_cpu, vectors = method.score(texts), method.embed(texts)
    method.to("cuda")
    on_gpu = method.score(texts)
    torch.testing.assert_close(on_gpu.nats, on_cpu.nats, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(torch.as_tensor(method.embed(texts)), torch.as_tensor(vectors), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrent_layers_keep_small_gradients_under_autocast(kind):
    """Autocast would run cuDNN's cells in float16, where the gradients of a mean over many tokens vanish."""
    torch.manual_seed(0)
    encoder = Recurrent(kind, dim=64)
    encoder.build(VOCAB, PAD, True)
    encoder.to("cuda")
    gradients = []
    for scale, enabled in ((1.0, False), (1e-9, True)):
        encoder.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            states = encoder(packed_rows())
        (states.float().square().sum() * scale).backward()
        gradients.append(encoder.embedding.weight.grad / scale)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=0.05 * float(gradients[0].abs().max()))


def test_a_bound_is_drawn_alike_twice():
    texts = random_texts(20, longest=12)
    torch.manual_seed(0)
    method = MaskedDiffusion(Transformer(size=None, dim=64, layers=2, heads=2))
    method.connect(get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(texts)))
    method.eval().to("cuda")
    torch.testing.assert_close(method.score(texts).nats, method.score(texts).nats, atol=0, rtol=0)


def test_commands_without_a_trainer_score_on_the_gpu_as_on_the_cpu(monkeypatch, capsys):
    texts = random_texts(20, longest=12)
    torch.manual_seed(0)
    method = CausalLM(Transformer(size=None, dim=64, layers=2, heads=2))
    path = save_untrained(method, get_tokenizer(TokenizerSettings(vocab_size=320), ListCorpus(texts)), Path("lm.ckpt"))
    assert load_model(str(path)).device.type == "cuda"
    Path("texts.txt").write_text("".join(f"{text}\n" for text in texts))
    found = []
    for available in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert run("score", "--checkpoint", str(path), "--input", "texts.txt") == 0
        found.append([json.loads(line)["nats"] for line in capsys.readouterr().out.splitlines()])
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_muon_moves_singular_values_near_one():
    matrices = torch.randn(3, 96, 64, device="cuda")
    values = torch.linalg.svdvals(orthogonalize(matrices).float())
    assert values.min() > 0.6
    assert values.max() < 1.4


def fit(method: str, texts: str, *more: str) -> list[str]:
    gpu = ["--trainer.accelerator=gpu", "--trainer.devices=1"]
    return ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts, *SHAPE, *gpu, *more)]


def last_loss(name: str) -> float:
    return float(read_numbers(Path("runs") / name / "metrics.csv")[-1]["val/loss"])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "16-mixed"])
@pytest.mark.parametrize("method", ["causal_lm", "masked_lm"])
def test_precisions_learn(method, precision, tmp_path):
    more = [f"--trainer.precision={precision}", "--trainer.max_steps=60", "--trainer.val_check_interval=20"]
    assert run(*fit(method, write_texts(tmp_path), *more, "--run=a")) == 0
    rows = read_numbers(Path("runs/a/metrics.csv"))
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    assert losses[-1] < losses[0]
    assert 0 < rows[-1].get("train/mfu", rows[-2].get("train/mfu")) < 1
    assert 1e5 < rows[-1].get("train/peak_memory", rows[-2].get("train/peak_memory")) < 1e9
    assert Method.load_from_checkpoint("runs/a/checkpoints/last.ckpt").device.type == "cpu"


@pytest.mark.parametrize("method", ["causal_lm", "masked_lm"])
def test_a_compiled_run_learns_what_an_eager_one_does(method, tmp_path):
    """Without dropout, whose draws differ in compiled graphs."""
    texts = write_texts(tmp_path)
    exact = ["--trainer.precision=32-true", "--model.optimization.optimizer=adamw", "--data.batch_size=16"]
    assert run(*fit(method, texts, *exact, "--run=eager")) == 0
    assert run(*fit(method, texts, *exact, "--model.compile=true", "--run=compiled")) == 0
    assert last_loss("compiled") == pytest.approx(last_loss("eager"), abs=1e-2)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_process_over_nccl_is_one_process(strategy, tmp_path):
    texts = write_texts(tmp_path)
    exact = ["--trainer.precision=32-true", "--model.optimization.optimizer=adamw", "--trainer.gradient_clip_val=null"]
    exact += ["--trainer.max_steps=20", "--trainer.val_check_interval=10", "--trainer.limit_val_batches=2"]
    for name, more in (("alone", []), (strategy, ["--config", str(CONFIGS / "trainer" / f"{strategy}.yaml")])):
        arguments = fit("causal_lm", texts)
        result = run_process(*arguments, *more, *exact, "--trainer.devices=1", "--run", name, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert last_loss(strategy) == pytest.approx(last_loss("alone"), abs=1e-4)


def test_a_killed_run_resumes(tmp_path):
    """Not to the bit, because some kernels add in any order."""
    texts = write_texts(tmp_path)
    own = ["--import=tests.end_to_end.cli", "--trainer.callbacks+=tests.end_to_end.cli.KillAt"]
    arguments = fit("masked_lm", texts, "--trainer.precision=bf16-mixed", *own)
    assert run_process(*arguments, "--run=whole", cwd=tmp_path).returncode == 0
    assert run_process(*arguments, "--run=killed", cwd=tmp_path, KILL_AT="15").returncode == -9
    resumed = run_process(*arguments, "--run=killed", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "step 10" in resumed.stdout
    assert last_loss("killed") == pytest.approx(last_loss("whole"), abs=0.02)
