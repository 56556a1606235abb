"""Token frequencies: a language model that is not better than they are has learned nothing."""

import numpy as np

from ssl_nlp.data.datamodule import TextDataModule


def unigram_loss(data: TextDataModule, ends: bool) -> float:
    """Cross-entropy in nats per token of the valid split under the token frequencies of the train split, add-one smoothed.

    Args:
        data: the corpus and its tokenizer.
        ends: whether the end of each document is a target too, as in causal language modelling.
    """
    tokenizer = data.tokenizer
    target = np.ones(tokenizer.vocab_size, dtype=bool)
    target[tokenizer.special_ids] = False
    target[tokenizer.end_id] = ends
    seen = data.store("train").token_counts(tokenizer.vocab_size)[target] + 1.0
    counts = data.store("valid").token_counts(tokenizer.vocab_size)[target]
    return float(-(counts * np.log(seen / seen.sum())).sum() / counts.sum())
