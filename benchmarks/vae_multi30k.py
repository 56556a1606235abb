"""Whether its latent variable helps a VAE to predict captions: a VAE beside the same decoder without latent variable.

Both are trained as `configs/vae.yaml` says, but on the given captions, with the same decoder, initial weights, batches,
optimizer and number of steps. The decoder without latent variable gets a vector of zeros instead. For each seed, prints
over all captions of the validation file, in nats per caption: the VAE's KL, its number of active units, its negative ELBO,
its importance-weighted bound of -log p(x) (`iw`), the exact -log p(x) of the decoder without latent variable (`without`),
and the bound minus the latter (negative: the VAE is better). Seconds are CPU seconds of training.

    python benchmarks/vae_multi30k.py --captions train.en --valid val.en [--steps 5000] [--seeds 3] [--draws 100]
"""

import argparse
import time
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything

from ssl_nlp.commands.trainer_settings import default_precision
from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import TextDataModule, TokenBatch, TokenizerSettings
from ssl_nlp.encoders import Encoder
from ssl_nlp.methods import VAE, Optimization
from ssl_nlp.methods.autoencoding.vae import ACTIVE
from ssl_nlp.objectives.gaussian import kl_to_standard_normal
from ssl_nlp.runs.checkpoint import instantiate
from ssl_nlp.training.sums import Loss, Term

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "vae.yaml"
M = TypeVar("M", bound=VAE)


class WithoutLatent(VAE):
    """The decoder of a VAE with a vector of zeros for every sentence. Its encoder is not trained."""

    def loss(self, batch: TokenBatch) -> Loss:
        reconstruction, _ = self.decoder.loss(self.zeros(batch), batch, self.targets(batch))
        return Loss({"reconstruction": Term(reconstruction, torch.tensor(len(batch)))})

    def zeros(self, batch: TokenBatch) -> torch.Tensor:
        """(B, Z)."""
        return torch.zeros(len(batch), self.latent_dim)


def main() -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="text file to train on, one caption a line")
    parser.add_argument("--valid", type=Path, required=True, help="text file to measure on, one caption a line")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--draws", type=int, default=100, help="draws of z for the importance-weighted bound")
    arguments = parser.parse_args()
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    if config["model"]["init_args"]["word_dropout"] > 0:
        parser.error(f"{CONFIG} sets word_dropout, which only the VAE's decoder would get: set it to 0")
    print(f"{arguments.steps} steps, {torch.get_num_threads()} threads, {arguments.draws} draws")
    print(
        f"{'seed':>4} {'KL':>6} {'active':>7} {'-ELBO':>7} {'iw':>7} {'without':>8} {'difference':>11} {'seconds':>8} "
        f"{'without':>8}"
    )
    for seed in range(arguments.seeds):
        data = captions(arguments, config)
        vae, seconds = train(VAE, config, data, arguments.steps, seed)
        kl, active, negative_elbo, bound = measure(vae, data, arguments.draws)
        other, other_seconds = train(WithoutLatent, config, data, arguments.steps, seed)
        exact = nll(other, data)
        print(
            f"{seed:>4} {kl:>6.2f} {f'{active}/{vae.latent_dim}':>7} {negative_elbo:>7.2f} {bound:>7.2f} {exact:>8.2f} "
            f"{bound - exact:>+11.2f} {seconds:>8.0f} {other_seconds:>8.0f}",
            flush=True,
        )


def captions(arguments: argparse.Namespace, config: dict[str, Any]) -> TextDataModule:
    """The given captions, tokenized and batched as the configuration says."""
    settings: dict[str, Any] = dict(config["data"]["init_args"])
    settings["corpus"] = TextFiles(
        str(arguments.captions), valid=str(arguments.valid), test=None, unit="line", format="text"
    )
    settings["tokenizer"] = TokenizerSettings(**settings["tokenizer"])
    return TextDataModule(**settings)


def train(kind: type[M], config: dict[str, Any], data: TextDataModule, steps: int, seed: int) -> tuple[M, float]:
    """The trained method, in evaluation mode, and the CPU seconds of its training."""
    seed_everything(seed, verbose=False)
    settings: dict[str, Any] = dict(config["model"]["init_args"])
    settings["encoder"] = instantiate(settings["encoder"], Encoder)  # type: ignore[type-abstract]
    settings["optimization"] = Optimization(**settings["optimization"])
    method = kind(**settings)
    trainer = Trainer(
        accelerator="cpu", precision=default_precision("cpu"), max_steps=steps,
        gradient_clip_val=config["trainer"]["gradient_clip_val"], limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    start = time.process_time()
    trainer.fit(method, data)
    return method.eval(), time.process_time() - start


@torch.no_grad()
def measure(method: VAE, data: TextDataModule, draws: int) -> tuple[float, int, float, float]:
    """KL, active units, negative ELBO and importance-weighted bound, over all of the validation split."""
    torch.manual_seed(0)
    means, kl, negative_elbo, bound = [], [], [], []
    for batch in data.val_dataloader():
        mean, log_variance = method.posterior(batch)
        bounds = method.nll_bounds(batch, mean, log_variance, draws)
        means.append(mean)
        kl.append(kl_to_standard_normal(mean, log_variance).sum(dim=1))
        negative_elbo.append(bounds[0])
        bound.append(bounds[1])
    active = int((torch.cat(means).var(dim=0, correction=0) > ACTIVE).sum())
    return float(torch.cat(kl).mean()), active, float(torch.cat(negative_elbo).mean()), float(torch.cat(bound).mean())


@torch.no_grad()
def nll(method: WithoutLatent, data: TextDataModule) -> float:
    """-log p(x) of a sentence, over all of the validation split."""
    batches = list(data.val_dataloader())
    losses = [method.decoder.sentence_losses(method.zeros(batch), batch, method.targets(batch)) for batch in batches]
    return float(torch.cat(losses).mean())


if __name__ == "__main__":
    main()
