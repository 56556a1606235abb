"""Makes the runs of this folder, and `expected.json`: what the version that wrote them says of them.

It ran once, with version 0.1.0, as `python -m tests.runs_0_1.make` in the folder above `tests/`.
"""

import json
import os
import random
import shutil
import signal
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import torch
from lightning.pytorch import Trainer
from transformers import AutoModel, BertConfig, BertTokenizerFast

from ssl_nlp.methods import Method
from tests.corpus import WORDS
from tests.end_to_end.cli import CONFIGS, run, small, write_texts
from tests.end_to_end.test_old_runs import TEXTS, validation

FOLDER = Path(__file__).parent
BPE = ("--data.tokenizer.kind=bpe", "--data.tokenizer.vocab_size=300")
WORDPIECE = ("--data.tokenizer.kind=wordpiece", "--data.tokenizer.vocab_size=300")
DELETE = '[{"class_path": "ssl_nlp.objectives.views.Delete", "init_args": {"rate": 0.2}}]'
SIMCLR = {"class_path": "ssl_nlp.methods.SimCLR", "init_args": {"views": json.loads(DELETE)}}
OBJECTIVES = json.dumps([{"class_path": "ssl_nlp.methods.MaskedLM"}, SIMCLR])
RUNS = {
    "causal_lm": ("causal_lm", *BPE),
    "masked_lm": ("masked_lm", *BPE),
    "masked_lm_next": ("masked_lm_nsp", *WORDPIECE),
    "masked_lm_pretrained": (
        "masked_lm",
        "--model.encoder=ssl_nlp.encoders.PretrainedEncoder",
        "--model.encoder.name=bert",
        "--data.tokenizer.name=bert",
        "--model.optimization.optimizer=adamw",
    ),
    "replaced_token": ("replaced_token", *WORDPIECE),
    "simclr": ("simclr", *WORDPIECE, f"--model.views={DELETE}", "--model.learn_temperature=true"),
    "moco": ("moco", *WORDPIECE, f"--model.views={DELETE}", "--model.queue=32", "--model.projection.depth=1",
             "--model.projection.width=16"),
    "autoencoder": ("autoencoder", *WORDPIECE, "--model.latent_dim=8", "--model.decoder_layers=1"),
    "tsdae": ("tsdae", *WORDPIECE, "--model.decoder_layers=1"),
    "vae": ("vae", *WORDPIECE, "--model.latent_dim=8", "--model.decoder_layers=1"),
    "multi_objective": ("multi_objective", *WORDPIECE, f"--model.objectives={OBJECTIVES}",
                        "--model.gradient_cosine_every=4"),
}  # fmt: skip
SIZE = ("dim=8", "layers=1", "heads=2", "hidden=16", "max_length=64")
STOPPED = ("masked_lm", "simclr", "multi_objective")  # of these there is also one that was stopped on the way


def fit(name: str, folder: str) -> int:
    config, *more = RUNS[name]
    encoder = (
        []
        if "--model.encoder.name=bert" in more
        else ["--model.encoder=ssl_nlp.encoders.Transformer", *(f"--model.encoder.{size}" for size in SIZE)]
    )
    settings = ["--trainer.precision=32-true", "--trainer.accelerator=cpu", "--trainer.max_steps=8"]
    often = ["--trainer.val_check_interval=4", "--trainer.log_every_n_steps=2", "--checkpoint_every=4"]
    if config == "simclr":
        more.append("--model.encoder.dropout=0")
    arguments = ["fit", "--config", str(CONFIGS / f"{config}.yaml"), *small("texts.txt"), *encoder]
    return run(*arguments, *settings, *often, *more, "--run", folder)


def stopped_at_step_5(name: str) -> int:
    """As if SIGTERM had come while it trained."""
    start = Trainer.global_step.fget
    kill = os.kill

    def training_step(self: Method, *arguments: object) -> object:
        if start(self.trainer) == 5:
            kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    step = Method.training_step
    with patch.object(Method, "training_step", training_step):
        return fit(name, f"{name}_stopped")


def write_data() -> None:
    """The corpus, the data of the suite, and a tiny published model."""
    write_texts(Path(), 160)
    generator = random.Random(1)
    texts = {label: [" ".join(["the", label, *generator.choices(WORDS, k=5)]) for _ in range(40)] for label in ANIMALS}
    rows = [f"{text}\t{label}\n" for label, some in texts.items() for text in dict.fromkeys(some)]
    Path("labelled.tsv").write_text("".join(["text\tlabel\n", *rows]))
    pairs = [(generator.choices(WORDS, k=6), generator.randrange(6)) for _ in range(40)]
    lines = [
        f"{' '.join(words)}\t{' '.join([*words[:kept], *generator.choices(WORDS, k=6 - kept)])}\t{kept}\n"
        for words, kept in pairs
    ]
    Path("scored.tsv").write_text("".join(lines))
    Path("suite.yaml").write_text(SUITE)
    Path("bert").mkdir()
    Path("bert/vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast("bert/vocab.txt").save_pretrained("bert")
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    AutoModel.from_config(BertConfig(vocab_size=5 + len(WORDS), max_position_embeddings=64, **size)).save_pretrained(
        "bert"
    )


ANIMALS = ("dog", "cat", "bird")
SUITE = """\
name: mine
data:
  animals: {task: classification, train: labelled.tsv, valid: 0.2, test: 0.3, label: label}
  pairs: {task: similarity, test: scored.tsv, text: 0, pair: 1, score: 2}
"""


def expected(name: str) -> dict[str, object]:
    out = StringIO()
    with redirect_stdout(out):
        assert run("validate", "--run", name) == 0
    method = Method.load_from_checkpoint(f"runs/{name}/checkpoints/last.ckpt")
    vectors = [[round(number, 6) for number in vector] for vector in method.embed(TEXTS).tolist()]
    return {"validation": validation(out.getvalue()), "embeddings": vectors}


def main(work: Path) -> None:
    work.mkdir(parents=True)
    os.chdir(work)
    write_data()
    for name in RUNS:
        assert fit(name, name) == 0
    assert run("evaluate", *RUNS, "--config", "suite.yaml") == 0
    for name in STOPPED:
        assert stopped_at_step_5(name) == 143
    for path in work.glob("runs/*/checkpoints/*"):
        if path.name != "last.ckpt":
            path.unlink()
    numbers = {name: expected(name) for name in RUNS}
    for path in [*work.glob("runs/.*"), *work.glob("runs/*/.*")]:
        path.unlink()
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in numbers.items()]
    Path("expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for path in [path for path in work.iterdir() if path.name != "runs"] + list(work.glob("runs/*")):
        if path.is_dir():
            shutil.copytree(path, FOLDER / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, FOLDER / path.name)


if __name__ == "__main__":
    main(Path(os.environ["TMPDIR"]) / "runs_0_1")
