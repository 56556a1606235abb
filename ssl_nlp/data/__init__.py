"""Documents to batches of tokens."""

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.datamodule import TextDataModule
from ssl_nlp.data.tokenizer import Tokenizer, TokenizerSettings

__all__ = ["TextDataModule", "TokenBatch", "Tokenizer", "TokenizerSettings"]
