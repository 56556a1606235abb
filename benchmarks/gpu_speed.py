"""Training speed on one GPU beside GPT-2 of `transformers`: tokens a second, share of the card's peak, peak memory.

Each method trains as its configuration says, in bfloat16 where autocast uses it, on rows of LENGTH tokens of English text,
eager and compiled, with encoders of the given sizes. GPT-2 of the same width, depth, heads and vocabulary is trained on the
same rows by `transformers.Trainer` (bf16, fused AdamW), eager and with `torch_compile`; its other settings, dropout
included, are its defaults. The steps of the second half are timed, up to the end of the last kernel. MFU divides the
FLOP/s of all matrix products but Muon's, with the whole square of attention, by the vendor's figure for the card. Finished
runs in FOLDER are not measured again: use another one for another card.

    python benchmarks/gpu_speed.py --english ENGLISH [--folder gpu_speed] [--sizes small base] [--batch 64] [--length 512]
        [--steps 60] [--methods causal_lm masked_lm]
"""

import argparse
import os
import time
from pathlib import Path

import ssl_nlp  # before torch

# isort: split
import torch
import transformers
from english_texts import corpus_options

from ssl_nlp.commands.shipped import find_config
from ssl_nlp.commands.train_runs import train
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders.transformer import PRESETS, Size
from ssl_nlp.evaluation.cost import MEMORY, RATE
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.training.callbacks.throughput import peak_flops

VOCABULARY = 8192


def main() -> None:
    """Train each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True, help="folder with train, valid and test.jsonl")
    parser.add_argument("--folder", type=Path, default=Path("gpu_speed"), help="of the runs")
    parser.add_argument("--sizes", nargs="+", default=["small", "base"], choices=sorted(PRESETS))
    parser.add_argument("--methods", nargs="*", default=["causal_lm", "masked_lm"])
    parser.add_argument("--batch", type=int, default=64, help="rows of a step")
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    english = arguments.english.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, ssl_nlp {ssl_nlp.__version__}; ", end="")
    print(f"peak {peak_flops(device, torch.bfloat16) / 1e12:.0f} TFLOP/s in bfloat16", flush=True)
    for size in arguments.sizes:
        for compiled in (False, True):
            for method in arguments.methods:
                print(ours(method, english, size, compiled, arguments), flush=True)
            print(gpt2(english, size, compiled, arguments), flush=True)


def line(name: str, size: str, compiled: bool, rate: float, memory: float, share: float | None = None) -> str:
    """A line of the table."""
    way = "compiled" if compiled else "eager"
    used = "" if share is None else f"  MFU {share:6.1%}"
    return f"{name:>18} {size:>7} {way:>9} {rate:>12,.0f} tokens/s  {memory / 2**30:6.2f} GiB{used}"


def ours(method: str, english: Path, size: Size, compiled: bool, arguments: argparse.Namespace) -> str:
    """Train a method, and read what its run has logged."""
    steps = arguments.steps
    extra = [*corpus_options(english), "--wandb.mode=disabled"]
    extra += [f"--model.encoder.init_args.size={size}", f"--model.compile={str(compiled).lower()}"]
    extra += [f"--data.batch_size={arguments.batch}", f"--data.length={arguments.length}", "--data.workers=2"]
    extra += ["--trainer.accelerator=gpu", "--trainer.devices=1", f"--trainer.max_steps={steps}"]
    extra += [f"--trainer.log_every_n_steps={steps // 2}", f"--trainer.val_check_interval={steps}"]
    extra += ["--trainer.limit_val_batches=2"]
    [run] = train((find_config(method),), 1, f"{size}-{'compiled' if compiled else 'eager'}", extra)
    rows = [row for row in read_numbers(Path(run) / "metrics.csv") if RATE in row]
    last = rows[-1]
    return line(method, size, compiled, last[RATE], last[MEMORY], last["train/mfu"])


def gpt2(english: Path, size: Size, compiled: bool, arguments: argparse.Namespace) -> str:
    """Train GPT-2 by the Trainer of `transformers` on the same rows."""
    length, batch, steps = arguments.length, arguments.batch, arguments.steps
    train_files, valid_files = (str(english / f"{split}.jsonl") for split in ("train", "valid"))
    data = TextDataModule(
        TextFiles(train_files, valid_files, None), TokenizerSettings(vocab_size=VOCABULARY), length=length
    )
    rows = data.maker.rows(data.store("train"), data.tokenizer, length)
    features = [rows[[number]].input_ids[0].tolist() for number in range(min(len(rows), batch * steps))]
    shape = PRESETS[size]
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=data.tokenizer.vocab_size, n_positions=length, n_embd=shape["dim"], n_layer=shape["layers"],
            n_head=shape["heads"], bos_token_id=data.tokenizer.end_id, eos_token_id=data.tokenizer.end_id,
        )
    )  # fmt: skip
    settings = transformers.TrainingArguments(
        output_dir="gpt2", max_steps=steps, per_device_train_batch_size=batch, learning_rate=0.001, bf16=True,
        optim="adamw_torch_fused", torch_compile=compiled, max_grad_norm=1.0, report_to=[], save_strategy="no",
        logging_steps=steps // 2, disable_tqdm=True, dataloader_num_workers=2,
    )  # fmt: skip
    clock = Clock(steps // 2)

    def collated(some: list[list[int]]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([ids + [data.tokenizer.pad_id] * (length - len(ids)) for ids in some])
        return {"input_ids": ids, "labels": ids}

    torch.cuda.reset_peak_memory_stats()
    trainer = transformers.Trainer(model, settings, train_dataset=features, data_collator=collated, callbacks=[clock])
    trainer.train()
    rate = batch * length * (steps - steps // 2) / clock.seconds
    memory = torch.cuda.max_memory_allocated()
    del trainer, model
    torch.cuda.empty_cache()
    return line("GPT-2, Trainer", size, compiled, rate, float(memory))


class Clock(transformers.TrainerCallback):
    """Times the steps after the given one.

    Attributes:
        seconds: that they took.
    """

    def __init__(self, start: int) -> None:
        self.start, self.began, self.seconds = start, 0.0, 0.0

    def on_step_end(self, args, state, control, **kwargs) -> None:  # type: ignore[no-untyped-def]
        """Called by the Trainer."""
        if state.global_step in (self.start, state.max_steps):
            torch.cuda.synchronize()
            now = time.perf_counter()
            self.seconds, self.began = now - self.began, now


if __name__ == "__main__":
    main()
