"""Documents to batches of tokens."""

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.batch_maker import BatchMaker
from ssl_nlp.data.blocks import Blocks
from ssl_nlp.data.continual import ContinualDataModule
from ssl_nlp.data.cooccurrences import Cooccurrences
from ssl_nlp.data.datamodule import TextDataModule
from ssl_nlp.data.questions import Questions
from ssl_nlp.data.tokenizer import Tokenizer, TokenizerSettings
from ssl_nlp.data.units import Pairs, Sentences, Texts

__all__ = [
    "BatchMaker",
    "Blocks",
    "ContinualDataModule",
    "Cooccurrences",
    "Pairs",
    "Questions",
    "Sentences",
    "TextDataModule",
    "Texts",
    "TokenBatch",
    "Tokenizer",
    "TokenizerSettings",
]
