"""Cost of an n-gram language model by order: time and memory to count a text, and bits per byte of another one.

Tokens are byte-level BPE's, trained on the same text. Seconds are CPU seconds; those of counting begin with token ids in
memory. Memory is the process's peak so far.

    python benchmarks/ngram_english.py --english ENGLISH [--orders 1 2 3 4 5] [--vocab_size 8192]
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from ssl_nlp.corpora import TextFiles
from ssl_nlp.corpora.base import Split
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.modules.kneser_ney import Array, KneserNey


def main() -> None:
    """Count, predict, and print a line for each order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, required=True, help="folder with train.jsonl and valid.jsonl")
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--vocab_size", type=int, default=8192)
    arguments = parser.parse_args()
    train, valid = (str(arguments.english / f"{split}.jsonl") for split in ("train", "valid"))
    data = TextDataModule(TextFiles(train, valid, None), TokenizerSettings(vocab_size=arguments.vocab_size))
    start = time.process_time()
    rows = {split: documents(data, split) for split in ("train", "valid")}
    said = f"{time.process_time() - start:.1f} s to train the tokenizer and to tokenize, less if the cache has them"
    print(f"{sum(map(len, rows['train'])):,} tokens; {said}")
    for order in arguments.orders:
        start = time.process_time()
        model = KneserNey.fit(rows["train"], data.tokenizer.vocab_size, order)
        counted = time.process_time()
        nats = -model.log_probs(*rows["valid"])
        scored = time.process_time()
        bits = nats.sum() / np.log(2) / data.statistics("valid").bytes
        print(
            f"order {order}: {counted - start:.1f} s to count {sum(map(len, model.counts)):,} n-grams, "
            f"{len(nats) / (scored - counted):,.0f} tokens/s predicted, perplexity {np.exp(nats.mean()):.1f}, "
            f"{bits:.3f} bits per byte, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
        )


def documents(data: TextDataModule, split: Split) -> list[Array]:
    """Each document from its start token to the one that ends it."""
    store = data.store(split)
    return [np.append(store.row(number).ids, data.tokenizer.end_id) for number in range(len(store.starts) - 1)]


if __name__ == "__main__":
    main()
