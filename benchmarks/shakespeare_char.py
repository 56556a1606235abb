"""CausalLM on characters of Shakespeare, beside nanoGPT with the CPU settings of its README.

Both train 4 layers of width 128 for 2,000 steps of 12 rows of 64 characters. They take turns (ours, theirs, ours, theirs),
so a machine that slows down slows both. Seconds are those of the whole command: start, training, validation, saving.
Losses are nats per character over the whole validation text. Ours is the last `val/loss` of `metrics.csv`; nanoGPT's is
computed from the checkpoint that it keeps, in blocks of 64, because its own estimate draws 20 random batches.

    python benchmarks/shakespeare_char.py --text FOLDER_WITH_TRAIN_AND_VAL_TXT [--nanogpt CHECKOUT]
"""

import argparse
import contextlib
import csv
import importlib
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "benchmarks" / "shakespeare_char.yaml"
BLOCK = 64
NANOGPT_ARGUMENTS = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=50 "
    f"--block_size={BLOCK} --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 "
    "--lr_decay_iters=2000 --dropout=0.0"
).split()
NANOGPT_SEED = "torch.manual_seed(1337 + seed_offset)"


def main() -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder with train.txt and val.txt")
    parser.add_argument("--nanogpt", type=Path, help="checkout of nanoGPT; without it, only ours is trained")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each")
    arguments = parser.parse_args()
    text, nanogpt = arguments.text.resolve(), arguments.nanogpt
    for path in [text / "train.txt", text / "val.txt", *([nanogpt / "train.py"] if nanogpt else [])]:
        if not path.is_file():
            parser.error(f"{path} does not exist")

    work = Path(tempfile.mkdtemp(prefix="shakespeare_char-"))
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores; all files in {work}"
    )
    peer = copy_nanogpt(nanogpt, work / "nanoGPT", text) if nanogpt else None
    header = f"{'seed':>4} {'loss':>8} {'seconds':>8}"
    print(header + (f" {'nanoGPT':>8} {'seconds':>8} {'ratio':>6}" if peer else ""))
    losses, peer_losses, ratios = [], [], []
    for seed in range(arguments.seeds):
        loss, seconds = train_ours(work, text, seed)
        losses.append(loss)
        line = f"{seed:>4} {loss:>8.4f} {seconds:>8.1f}"
        if peer:
            peer_loss, peer_seconds = train_nanogpt(peer, seed)
            peer_losses.append(peer_loss)
            ratios.append(seconds / peer_seconds)
            line += f" {peer_loss:>8.4f} {peer_seconds:>8.1f} {ratios[-1]:>6.2f}"
        print(line, flush=True)
    print(f"mean validation loss: {statistics.mean(losses):.4f}", end="")
    if peer:
        print(f", nanoGPT {statistics.mean(peer_losses):.4f}; time as a share of nanoGPT's: ", end="")
        print(f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}", end="")
    print()


def train_ours(work: Path, text: Path, seed: int) -> tuple[float, float]:
    """Validation loss and seconds of `ssl-nlp fit`."""
    run = f"shakespeare_char-seed{seed}"
    command = [sys.executable, "-m", "ssl_nlp", "fit", "--config", str(CONFIG)]
    command += ["--seed_everything", str(seed), "--run", run]
    command += ["--data.corpus.init_args.train", str(text / "train.txt")]
    command += ["--data.corpus.init_args.valid", str(text / "val.txt")]
    seconds = timed(command, work, work / f"{run}.log")
    with (work / "runs" / run / "metrics.csv").open(newline="") as file:
        return [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]][-1], seconds


def copy_nanogpt(checkout: Path, folder: Path, text: Path) -> Path:
    """Copy the checkout, which stays untouched, and add the text in nanoGPT's format."""
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".git", "out*", "*.bin", "*.pkl"))
    data = folder / "data" / "shakespeare_char"
    data.mkdir(parents=True, exist_ok=True)
    splits = {split: (text / f"{split}.txt").read_text(encoding="utf-8") for split in ("train", "val")}
    characters = sorted(set("".join(splits.values())))
    ids = {character: index for index, character in enumerate(characters)}
    for split, content in splits.items():
        np.array([ids[character] for character in content], dtype=np.uint16).tofile(data / f"{split}.bin")
    meta = {"vocab_size": len(characters), "stoi": ids, "itos": dict(enumerate(characters))}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def train_nanogpt(folder: Path, seed: int) -> tuple[float, float]:
    """Validation loss and seconds of nanoGPT's `train.py`."""
    source = (folder / "train.py").read_text(encoding="utf-8")
    if NANOGPT_SEED not in source:
        sys.exit(f"{folder / 'train.py'} does not set its seed with {NANOGPT_SEED}: use another version of nanoGPT")
    script, out = f"train_seed{seed}.py", f"out-seed{seed}"
    (folder / script).write_text(source.replace(NANOGPT_SEED, f"torch.manual_seed({seed})"), encoding="utf-8")
    command = [sys.executable, script, *NANOGPT_ARGUMENTS, f"--out_dir={out}"]
    seconds = timed(command, folder, folder.parent / f"nanoGPT-seed{seed}.log")
    return nanogpt_loss(folder, folder / out / "ckpt.pt"), seconds


@torch.no_grad()
def nanogpt_loss(folder: Path, checkpoint: Path) -> float:
    """Nats per character of a nanoGPT checkpoint over the whole validation text; each character is predicted once."""
    sys.path.insert(0, str(folder))
    module = importlib.import_module("model")
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with contextlib.redirect_stdout(None):  # the model prints its size
        model = module.GPT(module.GPTConfig(**saved["model_args"])).eval()
    model.load_state_dict(saved["model"])
    ids = torch.from_numpy(np.fromfile(folder / "data" / "shakespeare_char" / "val.bin", dtype=np.uint16).astype(int))
    full = (len(ids) - 1) // BLOCK * BLOCK
    batches = [*zip(ids[:full].view(-1, BLOCK).split(256), ids[1 : full + 1].view(-1, BLOCK).split(256), strict=True)]
    if full < len(ids) - 1:
        batches.append((ids[None, full:-1], ids[None, full + 1 :]))
    return sum(float(model(x, y)[1]) * y.numel() for x, y in batches) / (len(ids) - 1)


def timed(command: list[str], folder: Path, log: Path) -> float:
    """Wall-clock seconds of a command that runs in `folder`. If it fails, the benchmark ends."""
    with log.open("w") as file:
        start = time.perf_counter()
        status = subprocess.run(command, cwd=folder, stdout=file, stderr=file).returncode
    if status != 0:
        sys.exit(f"{' '.join(command)} failed with status {status}: see {log}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
