"""Which objective writes best: ARAE, VAE, CausalLM and masked diffusion on captions, by the metrics of free generation.

Trains each method on captions with its shipped settings and encoders of one size, as long as the given FLOPs last, and
measures the sentences that it draws beside held-out ones: perplexity both ways, self-BLEU, distinct-n and copies. The
report shows drawn sentences. Finished runs are kept.

    python benchmarks/generation_captions.py --captions multi30k/train.en [--folder generation_captions] [--seeds 3]
        [--budget flops=3e13] [--encoder tiny]
"""

import argparse
import os
from pathlib import Path

from ssl_nlp.commands.compare import compare

METHODS = ("arae", "vae", "causal_lm", "masked_diffusion")


def main() -> None:
    """Train, draw, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="text file with a caption a line")
    parser.add_argument(
        "--folder", type=Path, default=Path("generation_captions"), help="of the runs and the comparison"
    )
    parser.add_argument("--encoder", default="tiny", help="size of the encoder")
    parser.add_argument("--budget", default="flops=3e13", help="of each training, as compare --budget takes it")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    captions = arguments.captions.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    compare(
        [
            f"--seeds={arguments.seeds}", f"--budget={arguments.budget}", "--suite=generation", *METHODS, "--",
            "--data.corpus=ssl_nlp.corpora.TextFiles", f"--data.corpus.train={captions}", "--data.corpus.format=text",
            "--data.corpus.unit=line",
            "--data.unit=sentence", "--data.length=48", "--data.batch_size=64",
            f"--model.encoder.init_args.size={arguments.encoder}",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
