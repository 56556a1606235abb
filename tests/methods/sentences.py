"""Short sentences, and a small encoder, data and trainers for methods that read one in each row."""

from lightning.pytorch import Trainer

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.tokenizer import TokenizerSettings
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Transformer
from tests.corpus import ListCorpus, random_texts

TEXTS = random_texts(64, longest=8)
CORPUS = ListCorpus(random_texts(60), random_texts(21, seed=1))


def rows_of(tokenizer, texts) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)


def encoder(dim=32, **arguments) -> Transformer:
    return Transformer(size=None, dim=dim, layers=2, heads=2, max_length=64, **arguments)


def data(**arguments) -> TextDataModule:
    settings = {"unit": "sentence", "length": 64, "batch_size": 4, "seed": 0} | arguments
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=320), **settings)


def trainer(path, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    settings = {"max_steps": 4, "accelerator": "cpu", "enable_checkpointing": False} | quiet | arguments
    return Trainer(default_root_dir=path, **settings)
