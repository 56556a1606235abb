"""Export a run of each method in every format, and load the folders in a fresh environment without this package.

Trains a tiny run of each method on the given text and exports it, as far as that has not been done. Creates a virtual
environment that has no ssl_nlp, computes states, embeddings, logits and word vectors there, and compares them with ours.
Prints why a format has no place for a method, and the largest differences; ends with status 1 if one is larger than it
may be.

    python benchmarks/export_formats.py --text english/train.txt --folder export_formats
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import venv
import warnings
from pathlib import Path
from typing import Any

import torch

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import BagOfWords
from ssl_nlp.methods import Method
from ssl_nlp.training.texts import TextsCut

ROOT = Path(__file__).resolve().parents[1]
LOADER = ROOT / "tests" / "export" / "load_folders.py"
WORD_VECTORS = ("skip_gram", "cbow", "glove")
OWN_ENCODER = (*WORD_VECTORS, "bidirectional_lm")  # methods that need an encoder of another kind
METHODS = (
    "causal_lm", "masked_lm", "masked_lm_nsp", "replaced_token", "simclr", "moco", "autoencoder", "tsdae", "vae", "arae",
    "bidirectional_lm", "causal_masked_lm", "masked_diffusion", "span_corruption", "text_infilling", "multi_objective",
    *WORD_VECTORS,
)  # fmt: skip
PACKAGES = ("torch", "transformers", "sentence-transformers", "onnxruntime", "gensim")
FORMATS = ("transformers", "sentence-transformers", "onnx", "word2vec")
LIMITS = {"states": 1e-4, "logits": 1e-4, "encode": 1e-5, "graph": 1e-4, "words": 0.0}
SIZE = ["--model.encoder=ssl_nlp.encoders.Transformer", "--model.encoder.size=tiny", "--model.encoder.max_length=128"]
TEXTS = ["A small bird hears the red house.", "一只小狗看见猫。", "", "  two  spaces ", "a long text " * 200]


def main() -> None:
    """Train and export what is missing, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--text", required=True, type=Path, help="text file to train on, a document of several sentences a line"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="shipped configurations")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("export_formats"), help="where runs and exports are kept")
    parser.add_argument("--install", action="store_true", help="install the packages anew instead of lending them")
    arguments = parser.parse_args()
    text = arguments.text.absolute()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    for name in arguments.methods:
        train_and_export(name, text, arguments.steps)
    python = environment(Path("environment"), arguments.install)
    folders = sorted(str(path) for path in Path("exports").iterdir() if not path.name.startswith("."))
    subprocess.run([python, "-I", str(LOADER), "loaded.pt", json.dumps(TEXTS), *folders], check=True)
    loaded: dict[str, Any] = torch.load("loaded.pt")
    worst = 0.0
    print(f"{'run':16} " + " ".join(f"{kind:>9}" for kind in LIMITS))
    for name in arguments.methods:
        found = differences(name, loaded)
        worst = max([worst, *(value / LIMITS[kind] if value else 0.0 for kind, value in found.items())])
        print(f"{name:16} " + " ".join(f"{found[kind]:9.1e}" if kind in found else f"{'–':>9}" for kind in LIMITS))
    sys.exit(0 if worst <= 1 else 1)


def train_and_export(name: str, text: Path, steps: int) -> None:
    """Train a tiny run with a shipped configuration, and export it, as far as that has not been done."""
    if not Path("runs", name, "checkpoints", "last.ckpt").exists():
        corpus = ["--data.corpus=ssl_nlp.corpora.TextFiles", f"--data.corpus.train={text}", "--data.corpus.unit=line"]
        short = [f"--trainer.max_steps={steps}", "--data.length=64", "--data.batch_size=16", "--wandb.mode=disabled"]
        ssl_nlp("fit", "--config", name, *corpus, *([] if name in OWN_ENCODER else SIZE), *short, "--run", name)
    for kind in FORMATS:
        if (kind == "word2vec") == (name in WORD_VECTORS) and not Path("exports", f"{name}-{kind}").exists():
            ssl_nlp("export", name, "--format", kind)


def ssl_nlp(*command: str) -> None:
    """Run a command of ours, in a process as a user would; one that is refused prints its line."""
    subprocess.run([sys.executable, "-m", "ssl_nlp", *command], check=command[0] != "export")


def environment(path: Path, install: bool) -> str:
    """The Python of a virtual environment with the packages that load folders, and without ours."""
    python = str(path.absolute() / "bin" / "python")
    if not path.exists():
        venv.create(path, with_pip=install)
        if install:
            pinned = ["--constraint", str(ROOT / "constraints.txt")]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *pinned, *PACKAGES], check=True)
        else:  # a path in a .pth file brings packages, but not those that are installed by a .pth file there, as ours is
            [site] = path.glob("lib/python*/site-packages")
            (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    absent = "import importlib.util as u; assert u.find_spec('ssl_nlp') is None, 'ssl_nlp is installed'"
    subprocess.run([python, "-I", "-c", absent], check=True)
    return python


@torch.no_grad()
def differences(name: str, loaded: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each kind of output from ours, of the formats that have a place for the method."""
    method = Method.load_from_checkpoint(Path("runs", name, "checkpoints", "last.ckpt"))
    found = {}
    if stock := loaded.get(f"{name}-transformers"):
        batch = TokenBatch(stock["input_ids"], stock["mask"], packed=False)
        states, text = method.states(batch), batch.is_text
        found["states"] = difference(stock["AutoModel"]["last_hidden_state"][text], states[text])
        for auto in ("AutoModelForMaskedLM", "AutoModelForCausalLM"):
            if auto in stock:
                found["logits"] = difference(stock[auto]["logits"][text], language_head(method)(states)[text])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextsCut)
        vectors = method.embed(TEXTS)
    if ours := loaded.get(f"{name}-sentence-transformers"):
        found["encode"] = difference(ours["vectors"], vectors)
    if ours := loaded.get(f"{name}-onnx"):
        found["graph"] = difference(ours["sentence_embedding"], vectors)
    if words := loaded.get(f"{name}-word2vec"):
        assert isinstance(method.encoder, BagOfWords)
        ids = [method.tokenizer.spellings().index(word) for word in words["words"]]
        found["words"] = difference(words["vectors"], method.encoder.token_vectors(torch.tensor(ids)))
    return found


def language_head(method: Method) -> torch.nn.Module:
    """The head of a language model, or of the one among several objectives."""
    models = [method, *getattr(method, "objectives", {}).values()]
    head: torch.nn.Module = next(model.head for model in models if hasattr(model, "head"))
    return head


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference between two tensors."""
    return float((one - other).abs().max())


if __name__ == "__main__":
    main()
