"""How much one draw of hidden tokens says about the bound of `MaskedDiffusion`: the forms with 1/t and with L/k.

Trains the method for a few steps, and estimates the bound of one batch of validation texts again and again, each time from
one draw of hidden tokens. With 1/t, each token is hidden with probability t; with L/k, k of the L tokens are. Times t, from
which k follows, are drawn for each text alone or spread evenly over the texts. Prints mean and standard deviation of the
estimates, in nats per token: the means agree but for chance, and the form that varies less is the better one.

    python benchmarks/diffusion_bound.py --english ENGLISH [--steps 120] [--draws 60]
"""

import argparse
from pathlib import Path

import torch
from lightning.pytorch import Trainer, seed_everything

from ssl_nlp.commands.trainer_settings import default_precision
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenBatch, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import MaskedDiffusion, Optimization
from ssl_nlp.objectives.masked_diffusion import BITS, Hidden, hide_tokens, number_texts, spread_times

FORMS = ("1/t", "L/k")


def main() -> None:
    """Train, draw, and print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--draws", type=int, default=60, help="of each form")
    arguments = parser.parse_args()
    train, valid = (str(arguments.english / f"{split}.jsonl") for split in ("train", "valid"))
    data = TextDataModule(
        TextFiles(train, valid, None), TokenizerSettings(vocab_size=8192), unit="block", length=128, batch_size=32
    )
    method = trained(data, arguments.steps)
    batch: TokenBatch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        targets = int(method.loss(batch).terms["bound"].targets)
        print(f"{int(number_texts(batch.segment_ids).max()) + 1} texts, {targets:,} targets, {arguments.draws} draws")
        print(f"{'form':6} {'times':12} {'mean':>8} {'deviation':>10}")
        for form in FORMS:
            for spread in (False, True):
                torch.manual_seed(0)
                nats = [float(estimate(method, batch, form, spread)) / targets for _ in range(arguments.draws)]
                found = torch.tensor(nats, dtype=torch.float64)
                print(f"{form:6} {'spread' if spread else 'independent':12} {found.mean():8.3f} {found.std():10.3f}")


def trained(data: TextDataModule, steps: int) -> MaskedDiffusion:
    """The method after so many steps on the bound itself, in evaluation mode."""
    seed_everything(0, verbose=False)
    optimization = Optimization(optimizer="muon", learning_rate=0.002, schedule="cosine")
    method = MaskedDiffusion(Transformer("tiny"), weighting="bound", optimization=optimization)
    trainer = Trainer(
        accelerator="cpu", precision=default_precision("cpu"), max_steps=steps, gradient_clip_val=1.0,
        limit_val_batches=0, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(method, data)
    return method.eval()


def estimate(method: MaskedDiffusion, batch: TokenBatch, form: str, spread: bool) -> torch.Tensor:
    """The bound of all texts of a batch, in nats, from one draw of hidden tokens."""
    texts, content = number_texts(batch.segment_ids), method._content(batch)
    times = spread_times(texts.numel(), 1, texts.device)[0] if spread else torch.randint(2**BITS, (texts.numel(),))
    if form == "L/k":
        hidden = hide_tokens(texts, content, times)
    else:
        shares = ((times + 0.5) / 2**BITS)[texts].float()
        tokens = content & (torch.rand(shares.shape) < shares)
        hidden = Hidden(tokens, torch.where(tokens, 1 / shares, 0.0))
    states, tokens, factors, _ = method._predict(batch, hidden)
    return (method.head.losses(states, tokens).double() * factors).sum() + method._length_nats(batch).sum()


if __name__ == "__main__":
    main()
